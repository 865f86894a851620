# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The topics, types and QoS that docs/topics.md tells are those of the running nodes."""

import re

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from rclpy.parameter import Parameter  # noqa: E402,I100
from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy  # noqa: E402
from rgbx_seg_ros.node.projection_node import ProjectionNode  # noqa: E402
from support.checkout import ROOT  # noqa: E402

PAGE = (ROOT / 'docs' / 'topics.md').read_text(encoding='utf-8')
OF_EVERY_NODE = re.compile(r'/(rosout|parameter_events|clock)$|.*/transition_event$')


def told(heading):
    """Return type and QoS by topic, as the table below a heading has them."""
    section = PAGE.partition(f'## {heading}\n')[2].partition('\n## ')[0]
    rows = re.findall(r'^\| (`[^~].*?`) \| (\w+/\w+) \| (.+?) \|', section, re.MULTILINE)
    return {topic: (kind, qos) for topics, kind, qos in rows
            for topic in re.findall('`(.+?)`', topics)}


def made(endpoints):
    """Return the same of publishers or subscriptions."""
    found = {}
    for endpoint in endpoints:
        kind, qos = endpoint.msg_type, endpoint.qos_profile
        if OF_EVERY_NODE.match(endpoint.topic_name):
            continue
        assert qos.history == HistoryPolicy.KEEP_LAST
        words = ['reliable' if qos.reliability == ReliabilityPolicy.RELIABLE else 'best effort',
                 str(qos.depth), *['latched'] * (
                     qos.durability == DurabilityPolicy.TRANSIENT_LOCAL)]
        topic = endpoint.topic_name
        found[topic if topic == '/diagnostics' else topic[1:]] = (
            f'{kind.__module__.partition(".")[0]}/{kind.__name__}', ', '.join(words))
    return found


def test_seg_node_has_the_topics_of_the_page(make_node, write_card, tmp_path):
    card = write_card(network='difusionseg', network_args={}, groups={'moving': ['car']},
                      x={'kind': 'thermal', 'mean': [0.5], 'std': [0.2]})
    node = make_node(model=str(card), binary__group='moving', record__folder=str(tmp_path))
    published = told('What seg_node publishes')
    kind, qos = published.pop('segmentation/label_info')
    assert (kind, qos) == ('vision_msgs/LabelInfo', published['segmentation/palette'][1])
    topics = made(node.publishers)
    topics.pop('segmentation/label_info', None)  # where vision_msgs is installed
    assert topics == published
    assert made(node.subscriptions) == told('What seg_node takes')
    services = dict(re.findall(r'^\| `~/(\w+)` \| std_srvs/(\w+) \|', PAGE, re.MULTILINE))
    assert services == {service.srv_name.rpartition('/')[2]: service.srv_type.__name__
                        for service in node.services if 'std_srvs' in service.srv_type.__module__}


@pytest.mark.parametrize('source', ['depth', 'cloud'])
def test_seg_projection_has_the_topics_of_the_page(stage, source):
    values = {'camera.pose': 'parameters', 'camera.height': 1.0, 'points.source': source,
              'classes.costs': 'drivable=0', 'lidar.pose': [0.0, 0.0, 2.0, 0.0, 0.0, 0.0]}
    node = ProjectionNode(context=stage.context, parameter_overrides=[
        Parameter(name, value=value) for name, value in values.items()])
    try:
        assert node.start()
        taken = told('What seg_projection takes')
        del taken['lidar/points' if source == 'depth' else 'depth/image']
        assert made(node.subscriptions) == taken
        assert made(node.publishers) == told('What seg_projection publishes')
    finally:
        node.destroy_node()
