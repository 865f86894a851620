# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg view`: what the nodes see and tell, live in a browser.

A process of its own that hears the nodes as `top` does, and subscribes to their pictures only
while a browser looks.
"""

import time
import warnings

from rclpy.exceptions import InvalidTopicNameException
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.validate_full_topic_name import validate_full_topic_name
from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.node.ear import Ear, Node, number, OLD_S, ros
from rgbx_seg_ros.node.view_board import Board, DECODERS, Picture, Shown
from rgbx_seg_ros.node.view_facts import facts, legend
from rgbx_seg_ros.node.view_server import is_loopback, Server
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

_PERIOD_S = 0.1
"""No more than ten times in a second something else is shown."""
_GRAPH_S = 1.0
"""So often the graph is asked who publishes what."""
_INPUTS = ('rgb', 'x')
_TYPES = {'sensor_msgs/msg/Image': Image, 'sensor_msgs/msg/CompressedImage': CompressedImage}
# What the node offers fits, whatever it is, and nobody waits for this side.
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class _Source:
    """The topic of one picture: subscribed to as soon as somebody publishes it."""

    def __init__(self, ros_node, node_name, name):
        self._ros_node, self._node_name, self._name = ros_node, node_name, name
        self.topic, self._kind, self._subscription = '', None, None
        self._since_s = self._asked_s = -_GRAPH_S
        self._message, self._is_heard, self._is_published = None, False, False
        self.count = 0
        """How many pictures there were to show."""
        self.picture = None

    def update(self, topic: str, now_s: float) -> None:
        """Follow `topic`, and take what has come since."""
        if topic != self.topic or now_s - self._asked_s >= _GRAPH_S:
            self._asked_s = now_s
            self._follow(topic, now_s)
        if self._message is not None:
            self.picture, self._message = Picture(self._name, self._message), None
            self.count += 1
            self._since_s, self._is_heard = now_s, True

    def _follow(self, topic, now_s):
        kinds = {info.topic_type for info in
                 (self._ros_node.get_publishers_info_by_topic(topic) if topic else ())}
        kind = next((_TYPES[name] for name in sorted(kinds & _TYPES.keys())), None)
        self._is_published = kind is not None
        if topic == self.topic and kind in (None, self._kind):
            return
        self.close()
        self.topic, self._kind, self._is_heard, self._since_s = topic, kind, False, now_s
        if kind is not None:
            self._subscription = self._ros_node.create_subscription(
                kind, topic, self._take, _NEWEST)

    def _take(self, message):
        self._message = message

    def facts(self, node: Node, now_s: float) -> dict:
        """Return what a browser is told of it."""
        return {'count': self.count, 'topic': self.topic,
                'silent_s': round(now_s - self._since_s, 1) if self._is_heard else None,
                'trouble': self._trouble(node, now_s)}

    def _trouble(self, node, now_s):
        silent_s = now_s - self._since_s
        if self.picture is not None and self.picture.trouble:
            return f'{self.topic}: {self.picture.trouble}'
        if not self.topic:
            return f'the node tells no topic of {self._name}'
        if not self._is_published:
            return f'nobody publishes {self.topic}: ' + (
                f'does the camera run, and is its topic remapped to {self._name}/image?'
                if self._name in _INPUTS else
                f'is the node active (ros2 lifecycle get /{self._node_name}), and not remapped?')
        if silent_s < OLD_S:
            return '' if self._is_heard else f'waiting for {self.topic}'
        is_silent = now_s - node.heard_s > OLD_S
        if self._name in _INPUTS:
            if not is_silent and node.value(self._name, 'state') in ('late', 'dead'):
                return (f'nothing on {self.topic}: the node hears nothing either, look at the '
                        'camera')
        elif is_silent:
            return f'nothing on {self.topic}, nor any report of the node'
        elif not number(node.sections['segmentation'].values, 'masks_hz'):
            return f'nothing on {self.topic}: the node makes no masks'
        return (f'nothing on {self.topic}, which is published: are messages lost on the way? Both '
                'sides need config/fastdds.xml, and images of this size a network for them')

    def close(self):
        """Unsubscribe."""
        if self._subscription is not None:
            self._ros_node.destroy_subscription(self._subscription)
        self._subscription = None


class _Watch:
    """The pictures and the legend of a node that browsers look at."""

    def __init__(self, ros_node, name):
        self._ros_node = ros_node
        namespace = name.rpartition('/')[0]
        self._prefix = f'/{namespace}/segmentation' if namespace else '/segmentation'
        self._sources = {kind: _Source(ros_node, name, kind) for kind in DECODERS}
        self._legend, self._trouble, self._palette = [], '', None
        if _is_topic(self._prefix):
            self._palette = ros_node.create_subscription(
                String, f'{self._prefix}/palette', self._take_palette, _LATCHED)

    def _take_palette(self, message):
        try:
            self._legend, self._trouble = legend(message.data), ''
        except MessageError as error:
            self._legend, self._trouble = [], f'{self._prefix}/palette: {error}'

    def update(self, node: Node, now_s: float) -> int:
        """Take what has come; return a number that grows with it."""
        for kind, source in self._sources.items():
            topic = node.value(kind, 'topic') if kind in _INPUTS else f'{self._prefix}/{kind}'
            source.update(topic if _is_topic(topic) else '', now_s)
        return sum(source.count for source in self._sources.values())

    def facts(self, node: Node, now_s: float) -> dict:
        """Return what a browser is told besides what the node tells itself."""
        return {'pictures': {kind: source.facts(node, now_s)
                             for kind, source in self._sources.items()},
                'legend': self._legend, 'legend_trouble': self._trouble}

    def pictures(self):
        """Return the newest picture of each kind that has come."""
        return {kind: source.picture for kind, source in self._sources.items()
                if source.picture is not None}

    def close(self):
        """Unsubscribe from all."""
        for source in self._sources.values():
            source.close()
        if self._palette is not None:
            self._ros_node.destroy_subscription(self._palette)


def _is_topic(name):
    """Tell whether a topic can have this name, which was told by somebody."""
    try:
        return validate_full_topic_name(name)
    except InvalidTopicNameException:
        return False


class View:
    """Puts on `board` what `ear` hears, and the pictures of those nodes that are looked at."""

    def __init__(self, ear: Ear, board: Board):
        self._ear, self._board = ear, board
        self._watches: dict[str, _Watch] = {}
        self._numbers: dict[str, tuple] = {}
        self._silence, self._silence_s = '', -_GRAPH_S

    def update(self) -> None:
        """Show what is newest; to be called on the thread of `ear`."""
        now_s, shown = time.monotonic(), {}
        for name, node in self._ear.nodes.items():
            watch = self._watch(name)
            new = node.heard_s, watch and watch.update(node, now_s)
            told = facts(node, now_s)
            if watch is not None:
                told |= watch.facts(node, now_s)
            shown[name] = Shown(self._number(name, new), told,
                                watch.pictures() if watch else {})
        if not shown and now_s - self._silence_s >= _GRAPH_S:
            self._silence, self._silence_s = self._ear.silence(), now_s
        self._board.show(shown, '' if shown else self._silence)

    def _watch(self, name):
        """Return the watch over a node while browsers look at it, else None."""
        if self._board.is_looked_at(name):
            if name not in self._watches:
                self._watches[name] = _Watch(self._ear.node, name)
        elif name in self._watches:
            self._watches.pop(name).close()
        return self._watches.get(name)

    def _number(self, name, new):
        """Return a number that is another one whenever `new` is."""
        turn, before = self._numbers.get(name, (0, None))
        turn += new != before
        self._numbers[name] = turn, new
        return turn

    def close(self) -> None:
        """Unsubscribe from all."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('--node', metavar='NAME',
                        help='full name of the only node to show, as /front/rgbx_seg '
                             '(default: all that are heard)')
    parser.add_argument('--port', type=int, default=8080,
                        help='port of the page; 0: any free one (default: %(default)s)')
    parser.add_argument('--host', default='127.0.0.1', metavar='ADDRESS',
                        help='address of this machine at which the page is; whoever reaches it '
                             'sees the cameras (default: %(default)s, this machine alone)')


def main(args):
    """Run the command."""
    board = Board()
    server = Server(board, args.host, args.port)
    try:
        if not is_loopback(args.host):
            warnings.warn(f'whoever reaches {server.url} sees the cameras, without a password and '
                          f'unencrypted; without --host, `ssh -L {server.port}:127.0.0.1:'
                          f'{server.port} ROBOT` shows them to you alone', stacklevel=2)
        with ros() as asked:
            _serve(server, board, args.node, asked)
    finally:
        server.server_close()


def _serve(server, board, name, asked):
    ear = Ear('view', name, asked)
    view = View(ear, board)
    server.start()
    try:
        print(f'the page is {server.url} (Ctrl-C ends it)', flush=True)
        while True:
            ear.listen(_PERIOD_S)
            view.update()
    finally:
        server.close()
        view.close()
        ear.close()
