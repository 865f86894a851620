# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Replay: every pair gets its mask, under the header of its RGB frame, and nothing is lost."""

import dataclasses
import json
import shutil
import tracemalloc

import numpy as np
import pytest
from rgbx_seg_ros.bags.make_bag import make_bag
from rgbx_seg_ros.bags.storage import BagReader, BagWriter, image_message, STORAGES, String
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, stamp_ns
from rgbx_seg_ros.registration.rig import Rig
from rgbx_seg_ros.replay.replay import replay
from support.bag_files import change_metadata, metadata
from support.replay_bags import (
    Engine,
    frame,
    H,
    label_message,
    matrix_of,
    PERIOD_NS,
    read,
    rgb_message,
    START_NS,
    W,
    write_bag,
    write_folder,
    write_pairs,
    x_message,
)
import yaml


def test_x_is_scaled_as_the_segmenter_is_told(tmp_path, tiny_card):
    limits = []

    class Noting(Engine):

        def __call__(self, rgb, x, x_limits, sensors):
            limits.append(x_limits)
            return super().__call__(rgb, x, x_limits, sensors)

    card = load_card(tiny_card)
    span = dataclasses.replace(card.x, normalization='fixed', range=(20.0, 180.0))
    replay(write_pairs(tmp_path / 'bag', 2), Segmenter(card, Noting(), span))
    assert limits == [span.range] * 2


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('compressed', [False, True])
def test_six_frames_become_six_masks_under_the_headers_of_rgb(
        tmp_path, segmenter, storage, compressed):
    folder = write_folder(tmp_path / 'frames')
    make_bag(folder, tmp_path / 'bag', offset_ms=12, jitter_ms=5, compressed=compressed,
             storage=storage)
    report = replay(tmp_path / 'bag', segmenter, storage=storage)
    suffix = '/compressed' if compressed else ''
    assert report.out == str(tmp_path / 'bag_masks')
    assert report.topics == {'rgb': f'/rgb/image{suffix}', 'x': f'/x/image{suffix}',
                             'label': '/ground_truth/mask'}
    assert report.messages == {'rgb': 6, 'x': 6, 'label': 6}
    assert (report.pairs, report.drops, report.scored) == (6, {}, 6)
    assert 7 < report.offset_ms['median'] < report.offset_ms['p95'] < 17

    sources = read(tmp_path / 'bag', f'/rgb/image{suffix}')
    masks = read(report.out, '/segmentation/mask')
    confidences = read(report.out, '/segmentation/confidence')
    assert len(sources) == len(masks) == len(confidences) == 6
    for i, source in enumerate(sources):
        rgb, x, _ = frame(i)
        expected = segmenter(rgb, x)
        for message, pixels in ((masks[i], expected.mask), (confidences[i], expected.confidence)):
            assert message.header == source.header
            assert message.header.frame_id == 'rgb_optical_frame'
            assert (message.encoding, message.step) == ('mono8', W)
            np.testing.assert_array_equal(decode_x(message), pixels)
    [palette] = read(report.out, '/segmentation/palette')
    assert [entry['name'] for entry in json.loads(palette.data)] == [
        'background', 'car', 'person', 'unlabeled']


def test_the_palette_waits_for_subscribers_that_come_late(tmp_path, segmenter):
    replay(write_pairs(tmp_path / 'bag', 2), segmenter)
    qos = {topic['topic_metadata']['name']: topic['topic_metadata']['offered_qos_profiles']
           for topic in metadata(tmp_path / 'bag_masks')['topics_with_message_count']}
    transient_local = 1
    [profile] = yaml.safe_load(qos['/segmentation/palette'])
    assert profile['durability'] == transient_local
    assert qos['/segmentation/mask'] == qos['/segmentation/confidence'] == ''


def test_stamps_are_kept_to_the_last_bit(tmp_path, segmenter):
    times = [START_NS, START_NS + 1, START_NS + 999_999_999, 1, 2_147_483_647_999_999_999]
    for time_ns in times:
        bag = write_bag(tmp_path / f'{time_ns}', [
            ('/rgb/image', rgb_message(0, time_ns)),
            ('/x/image', image_message(frame(0)[1], 'mono8', time_ns, 'infrared'))])
        [mask] = read(replay(bag, segmenter).out, '/segmentation/mask')
        assert stamp_ns(mask.header) == time_ns


def test_masks_are_received_in_order_and_within_the_time_of_the_bag(tmp_path, segmenter):
    bag = write_pairs(tmp_path / 'bag')
    out = replay(bag, segmenter).out
    with BagReader(out) as reader:
        topics = list(reader.topics)
        received = [(topic, time_ns) for topic, time_ns, _ in reader.messages(topics)]
    times = [time_ns for _, time_ns in received]
    assert times == sorted(times)
    assert START_NS <= times[0] and times[-1] == START_NS + 11 * 1_000_000
    assert received[0][0] == '/segmentation/palette'


@pytest.mark.parametrize('order', ['before', 'between', 'after', 'last'])
def test_scores_equal_those_computed_directly_whenever_the_label_comes(
        tmp_path, segmenter, order):
    messages = []
    for i in range(6):
        own = [('/rgb/image', rgb_message(i)), ('/x/image', x_message(i))]
        position = {'before': 0, 'between': 1, 'after': 2, 'last': 2}[order]
        own.insert(position, ('/ground_truth/mask', label_message(i)))
        messages += own
    if order == 'last':
        messages.sort(key=lambda message: message[0] == '/ground_truth/mask')
    report = replay(write_bag(tmp_path / 'bag', messages), segmenter)
    matrix = matrix_of(range(6), segmenter)
    assert report.scored == 6
    assert report.scores['mean_iou'] == matrix.mean_iou()
    assert report.scores['pixel_accuracy'] == matrix.pixel_accuracy()
    assert [by_class['iou'] for by_class in report.scores['classes'].values()] == list(
        matrix.iou())
    assert matrix.table(['background', 'car', 'person']) in str(report)


def test_only_labelled_masks_are_scored(tmp_path, segmenter):
    messages = [message for i in range(6) for message in (
        ('/rgb/image', rgb_message(i)), ('/x/image', x_message(i)))]
    messages += [('/truth', label_message(i)) for i in (1, 4)]
    bag = write_bag(tmp_path / 'bag', messages)
    report = replay(bag, segmenter, label_topic='/truth')
    assert report.scored == 2
    assert report.scores['mean_iou'] == matrix_of((1, 4), segmenter).mean_iou()
    assert replay(bag, segmenter, tmp_path / 'unscored').scores is None


def test_a_class_that_never_occurs_has_no_score(tmp_path, segmenter):
    cold = image_message(np.zeros((H, W), np.uint8), 'mono8', START_NS, 'infrared')
    bag = write_bag(tmp_path / 'bag', [
        ('/rgb/image', rgb_message(0)), ('/x/image', cold),
        ('/ground_truth/mask', label_message(0, np.zeros((H, W), np.uint8)))])
    scores = replay(bag, segmenter).scores
    assert scores['mean_iou'] == 1
    assert scores['classes']['background'] == dict.fromkeys(
        ('iou', 'recall', 'precision', 'f1'), 1)
    assert scores['classes']['car'] == dict.fromkeys(
        ('iou', 'recall', 'precision', 'f1'))


@pytest.mark.parametrize('first', ['label', 'pair'])
def test_labels_that_do_not_fit_the_model_are_left_out_and_reported(tmp_path, segmenter, first):
    labels = [frame(0)[2], np.full((H, W), 3, np.uint8), frame(2)[2][:, 1:]]
    messages = [message for i, label in enumerate(labels) for message in (
        ('/rgb/image', rgb_message(i)), ('/x/image', x_message(i)),
        ('/ground_truth/mask', label_message(i, label)))]
    if first == 'label':
        messages.sort(key=lambda message: message[0])
    wide = image_message(frame(3)[2].astype(np.uint16), 'mono16', START_NS, 'front_camera')
    messages.append(('/ground_truth/mask', wide))
    report = replay(write_bag(tmp_path / 'bag', messages), segmenter)
    assert (report.scored, report.drops) == (1, {'label_malformed': 3})
    assert 'label holds the id 3, allowed are 0..2' in report.malformed['label']
    assert report.scores['mean_iou'] == matrix_of([0], segmenter).mean_iou()


def test_malformed_frames_are_counted_and_the_replay_goes_on(tmp_path, segmenter):
    bad_rgb, bad_x, four_channels = rgb_message(1), x_message(3), x_message(4)
    bad_rgb.encoding = 'yuv999'
    bad_x.data = bad_x.data[:-1]
    four_channels.encoding, four_channels.width = '8UC4', W // 4
    messages = [message for i in range(6) for message in (
        ('/rgb/image', bad_rgb if i == 1 else rgb_message(i)),
        ('/x/image', {3: bad_x, 4: four_channels}.get(i) or x_message(i)))]
    report = replay(write_bag(tmp_path / 'bag', messages), segmenter)
    assert report.pairs == 3
    assert report.drops == {'rgb_malformed': 1, 'x_malformed': 2, 'rgb_no_partner': 2,
                            'x_unused': 1}
    assert "encoding is 'yuv999'" in report.malformed['rgb']
    assert 'data has 191 bytes, step*height needs 192' in report.malformed['x']
    for kind in ('rgb', 'x'):
        lost = sum(n for reason, n in report.drops.items() if reason.startswith(f'{kind}_'))
        assert report.messages[kind] == report.pairs + lost
    assert [stamp_ns(mask.header) for mask in read(report.out, '/segmentation/mask')] == [
        START_NS + i * PERIOD_NS for i in (0, 2, 5)]


def test_a_camera_three_times_as_fast_is_paired_with_the_nearest(tmp_path, segmenter):
    fast = [('/rgb/image', rgb_message(i, START_NS + i * PERIOD_NS // 3)) for i in range(18)]
    slow = [('/x/image', x_message(i)) for i in range(6)]
    messages = [*fast, *slow]
    messages.sort(key=lambda message: stamp_ns(message[1].header))
    report = replay(write_bag(tmp_path / 'bag', messages), segmenter)
    assert (report.pairs, report.drops) == (6, {'rgb_no_partner': 12})
    assert report.offset_ms == {'median': 0, 'p95': 0}


def test_a_late_x_stream_still_finds_its_frames(tmp_path, segmenter):
    """X arrives 0.4 s after RGB, as behind a slow encoder; the stamps are right."""
    with BagWriter(tmp_path / 'bag') as bag:
        for i in range(10):
            bag.write('/rgb/image', rgb_message(i), START_NS + i * PERIOD_NS)
            bag.write('/x/image', x_message(i), START_NS + i * PERIOD_NS + 400_000_000)
    assert replay(tmp_path / 'bag', segmenter).pairs == 10


def test_a_known_offset_is_taken_off(tmp_path, segmenter):
    bag = write_pairs(tmp_path / 'bag', offset_ns=70_000_000)
    report = replay(bag, segmenter, x_offset_ms=-70, slop_ms=1)
    assert report.pairs == 6
    assert report.offset_ms['median'] == 70
    rgb, x, _ = frame(3)
    mask = read(report.out, '/segmentation/mask')[3]
    np.testing.assert_array_equal(decode_x(mask), segmenter(rgb, x).mask)


def test_a_bag_without_pairs_says_why_and_leaves_nothing(tmp_path, segmenter):
    bag = write_pairs(tmp_path / 'bag', offset_ns=40_000_000)
    with pytest.raises(DataError, match='no pair: 6 frames in /rgb/image, 6 in /x/image, slop '
                                        '30 ms, dropped: rgb_no_partner 6, x_unused 6') as error:
        replay(bag, segmenter, slop_ms=30)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'bag_masks').exists()


def test_a_topic_without_messages_is_told_and_not_the_slop(tmp_path, segmenter):
    bag = write_bag(tmp_path / 'bag', [('/rgb/image', rgb_message(0)), ('/cam', x_message(0))])
    topics = metadata(bag)['topics_with_message_count']
    empty = {**topics[0], 'message_count': 0}
    empty['topic_metadata'] = {**empty['topic_metadata'], 'name': '/x/image'}
    change_metadata(bag, topics_with_message_count=[*topics, empty])
    with pytest.raises(DataError, match='no pair: 1 frames in /rgb/image, 0 in /x/image, .* '
                                        'nothing was recorded in /x/image: name another topic, '
                                        'images are in /cam 1$'):
        replay(bag, segmenter)


def test_where_no_message_can_be_used_its_error_is_told_and_not_the_slop(tmp_path, segmenter):
    bad = rgb_message(0)
    bad.encoding = 'yuv999'
    bag = write_bag(tmp_path / 'bag', [('/rgb/image', bad), ('/x/image', x_message(0))])
    with pytest.raises(DataError, match="rgb_malformed 1, x_unused 1; first bad rgb .*'yuv999'"
                       ) as error:
        replay(bag, segmenter)
    assert 'slop and' not in str(error.value)


def test_topics_without_messages_stand_back(tmp_path, segmenter):
    """As `ros2 bag record -a` lists them beside the compressed ones that it has heard."""
    bag, frames = tmp_path / 'bag', write_folder(tmp_path / 'frames')
    shutil.rmtree(frames / 'label')
    make_bag(frames, bag, compressed=True)
    topics = metadata(bag)['topics_with_message_count']
    empty = [{'message_count': 0, 'topic_metadata': {
        **topics[0]['topic_metadata'], 'name': name, 'type': 'sensor_msgs/msg/Image'}}
        for name in ('/rgb/image', '/x/image', '/ground_truth/mask')]
    change_metadata(bag, topics_with_message_count=[*empty, *topics])
    report = replay(bag, segmenter)
    assert report.topics == {'rgb': '/rgb/image/compressed', 'x': '/x/image/compressed'}
    assert report.pairs == 6


def test_the_masks_of_a_bag_given_by_its_metadata_stand_beside_it(tmp_path, segmenter):
    bag = write_pairs(tmp_path / 'bag', 2)
    report = replay(bag / 'metadata.yaml', segmenter, page=tmp_path / 'page.html')
    assert (report.bag, report.out) == (str(bag), str(tmp_path / 'bag_masks'))
    assert '<h1>tiny on bag</h1>' in (tmp_path / 'page.html').read_text(encoding='utf-8')


def test_sixteen_bit_frames_reach_the_network_whole(tmp_path, segmenter):
    rgb, x, _ = frame(0, np.uint16)
    bag = write_bag(tmp_path / 'bag', [
        ('/rgb/image', rgb_message(0)), ('/x/image', image_message(x, '16UC1', START_NS, ''))])
    [mask] = read(replay(bag, segmenter).out, '/segmentation/mask')
    np.testing.assert_array_equal(decode_x(mask), segmenter(rgb, x).mask)
    assert len(np.unique(decode_x(mask))) == 3


def test_wrong_topics_are_named(tmp_path, segmenter):
    bag = write_bag(tmp_path / 'bag', [
        ('/rgb/image', rgb_message(0)), ('/x/image', x_message(0)), ('/text', String(data=''))])
    for wrong, message in (
            ({'rgb_topic': '/cam'}, "'/cam' is not in .*the bag has /rgb/image"),
            ({'x_topic': '/text'}, "'/text' holds std_msgs/msg/String"),
            ({'label_topic': '/truth'}, "'/truth' is not in"),
            ({'x_topic': '/rgb/image'}, 'must differ')):
        with pytest.raises(DataError, match=message):
            replay(bag, segmenter, **wrong)
    assert not (tmp_path / 'bag_masks').exists()


@pytest.mark.parametrize('wrong', [{'slop_ms': -1}, {'slop_ms': float('nan')},
                                   {'x_offset_ms': float('nan')}, {'x_offset_ms': 1e9}])
def test_impossible_times_are_refused(tmp_path, segmenter, wrong):
    bag = write_pairs(tmp_path / 'bag', 1)
    with pytest.raises(ParameterError, match='allowed is'):
        replay(bag, segmenter, **wrong)


def test_a_bag_damaged_further_on_ends_in_one_error_and_leaves_nothing(tmp_path, segmenter):
    bag = tmp_path / 'bag'
    make_bag(write_folder(tmp_path / 'frames'), bag, storage='sqlite3')
    path = bag / 'bag.db3'
    content = bytearray(path.read_bytes())
    content[len(content) // 2:] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(DataError, match='damaged'):
        replay(bag, segmenter)
    assert not (tmp_path / 'bag_masks').exists()


def test_the_masks_of_a_single_file_stand_beside_it(tmp_path, segmenter):
    bag = write_pairs(tmp_path / 'run')
    assert replay(bag / 'run.mcap', segmenter).out == str(bag / 'run_masks')


@pytest.mark.parametrize('label_delay_ns', [0, 1])
def test_memory_does_not_grow_with_the_bag(tmp_path, segmenter, label_delay_ns, monkeypatch):
    """Nor when labels and masks wait for each other in vain, because their stamps differ."""
    # It keeps what it has seen of the last 400 pairs.
    monkeypatch.setattr(Rig, 'watch', lambda *_: None)

    def messages(count):
        for i in range(count):
            time_ns = START_NS + i * PERIOD_NS
            rgb, ids = np.zeros((100, 300, 3), np.uint8), np.zeros((100, 300), np.uint8)
            yield '/rgb/image', image_message(rgb, 'rgb8', time_ns, 'front_camera')
            yield '/ground_truth/mask', image_message(ids, 'mono8', time_ns + label_delay_ns, '')
            yield '/x/image', image_message(ids, 'mono8', time_ns, 'infrared')

    class Engine(type(segmenter.engine)):

        def __call__(self, rgb, x, x_limits, sensors):
            return np.zeros(rgb.shape[:2], np.uint8), np.zeros(rgb.shape[:2], np.uint8)

    segmenter.engine = Engine()
    peaks = []
    for count in (2, 120, 240):
        bag = write_bag(tmp_path / str(count), messages(count))
        tracemalloc.start()
        assert replay(bag, segmenter).pairs == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    frames_more = 120
    assert peaks[2] < peaks[1] + frames_more * 30_000 / 4


def test_a_fused_image_is_kept_beside_the_mask(tmp_path, tiny_card):
    class Fusing(Engine):

        def __call__(self, rgb, *rest):
            return *super().__call__(rgb, *rest), 255 - rgb
    report = replay(write_pairs(tmp_path / 'bag', 2), Segmenter(load_card(tiny_card), Fusing()))
    masks = read(report.out, '/segmentation/mask')
    for i, image in enumerate(read(report.out, '/segmentation/fused')):
        assert (image.header, image.encoding) == (masks[i].header, 'rgb8')
        np.testing.assert_array_equal(decode_rgb(image), 255 - frame(i)[0])


def test_a_real_network_runs_from_its_card(tmp_path, tiny_card):
    bag = write_pairs(tmp_path / 'bag', 2)
    segmenter = Segmenter.from_card(tiny_card, device='cpu')
    report = replay(bag, segmenter)
    assert (report.pairs, report.device) == (2, 'cpu float32')
    assert 0 < report.inference_ms['median'] <= report.inference_ms['p95']
    for i, mask in enumerate(read(report.out, '/segmentation/mask')):
        np.testing.assert_array_equal(decode_x(mask), segmenter(*frame(i)[:2]).mask)
        np.testing.assert_array_equal(decode_rgb(read(bag, '/rgb/image')[i]), frame(i)[0])
