# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A rig's bag: X is laid on RGB and scaled, and masks left open, as the node's parameters say."""

import json

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import BagReader, BagWriter, compressed_message, image_message
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.messages.images import decode_x
from rgbx_seg_ros.parameters import DEFAULTS, Parameters
from rgbx_seg_ros.registration.rig import Rig
from rgbx_seg_ros.replay.replay import replay, USED
from support.bag_files import camera_info_message
from support.stand_ins import engine_of

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
RGB = np.full((48, 64, 3), 100, np.uint8)
X = np.zeros((30, 40), np.uint16)
X[:, 20:] = 9000
SHIFTED = {
    'registration_mode': 'homography',
    'registration_homography': (1.6, 0.0, 16.0, 0.0, 1.6, 0.0, 0.0, 0.0, 1.0),
    'registration_x_size': (40, 30), 'registration_rgb_size': (64, 48)}
"""X is drawn to RGB's scale, and a quarter of its width to the right."""
BESIDE = {'registration_mode': 'extrinsics', 'registration_depth_m': 2.0,
          'registration_translation': (0.1, 0.0, 0.0)}
"""X sits 0.1 m to the right of RGB; at fx 60 px the scene moves by 3 px."""


class Bench:
    """A segmenter that marks the upper half of the range of X and keeps what it was asked."""

    def __init__(self, card, confidence=200):
        self.asked = []
        self.confidence = confidence
        self.segmenter = Segmenter(load_card(card), engine_of(self._segment))

    def _segment(self, rgb, x, limits, sensors):
        self.asked.append((x, limits))
        x = cv2.resize(x, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        mask = (x.astype(float) > np.mean(limits)).astype(np.uint8)
        return mask, np.full_like(mask, self.confidence)

    def replay(self, bag, **options):
        parameters = {name: options.pop(name) for name in list(options)
                      if name in Parameters.__dataclass_fields__ and name not in (
                          'slop_ms', 'x_offset_ms')}
        return replay(bag, self.segmenter, parameters=Parameters(**parameters), **options)


@pytest.fixture
def bench(tiny_card):
    return Bench(tiny_card)


def write_bag(path, count=3, x=X, x_offset_ns=0, infos=(), rgb=RGB):
    """Write pairs and `infos`, (pair before which it comes, topic, width, height, fx)."""
    with BagWriter(path) as bag:
        for i in range(count + 1):
            time_ns = START_NS + i * PERIOD_NS
            for before, topic, *optics in infos:
                if before == i:
                    bag.write(topic, camera_info_message(*optics), time_ns - 1)
            if i < count:
                bag.write('/rgb/image', image_message(rgb, 'rgb8', time_ns, 'left'), time_ns)
                frame = x[i] if isinstance(x, list) else x
                encoding = 'mono16' if frame.dtype == np.uint16 else 'mono8'
                bag.write('/x/image', image_message(frame, encoding, time_ns + x_offset_ns, 'ir'),
                          time_ns + 1)
    return path


def masks(report):
    with BagReader(report.out) as reader:
        return [decode_x(message) for _, _, message in reader.messages(['/segmentation/mask'])]


def edges(report):
    """Return the first column of each mask that is marked."""
    return [int(mask[24].argmax()) for mask in masks(report)]


def test_x_is_brought_onto_rgb_by_a_homography(tmp_path, bench):
    bag = write_bag(tmp_path / 'bag')
    assert edges(bench.replay(bag)) == [32] * 3
    report = bench.replay(bag, out=tmp_path / 'out', **SHIFTED)
    assert edges(report) == [48] * 3
    assert bench.asked[-1][0].shape == (48, 64)


def test_x_of_another_size_is_counted_and_told(tmp_path, bench):
    frames = [X, X[:20], X]
    report = bench.replay(write_bag(tmp_path / 'bag', x=frames), **SHIFTED)
    assert (report.pairs, report.drops) == (2, {'x_unregistered': 1, 'rgb_no_partner': 1})
    assert report.malformed['x'].startswith('X frames are 40x20, but registration is calibrated')
    assert report.messages == {'rgb': 3, 'x': 3}
    with pytest.raises(DataError, match='holds no pair: .* x_unregistered 2; first bad x message: '
                                        'X frames are 40x20') as error:
        bench.replay(write_bag(tmp_path / 'none', 2, X[:20]), **SHIFTED)
    assert 'check the slop' not in str(error.value)


# By both cameras

INFOS = [(0, '/rgb/camera_info', 64, 48, 60.0), (0, '/x/camera_info', 64, 48, 60.0)]
SQUARE = np.zeros((48, 64), np.uint16)
SQUARE[:, 32:] = 9000


def test_x_is_brought_onto_rgb_by_the_camera_infos_of_the_bag(tmp_path, bench):
    report = bench.replay(write_bag(tmp_path / 'bag', x=SQUARE, infos=INFOS), **BESIDE)
    assert edges(report) == [35] * 3
    assert report.topics == {'rgb': '/rgb/image', 'x': '/x/image'}
    assert report.messages == {'rgb': 3, 'x': 3}


def test_a_camera_info_that_was_received_late_serves_the_frames_before_it(tmp_path, bench):
    """As one that is latched and published once, while the recorder was still finding topics."""
    late = [(3, *info[1:]) for info in INFOS]
    report = bench.replay(write_bag(tmp_path / 'bag', x=SQUARE, infos=late), **BESIDE)
    assert edges(report) == [35] * 3


def test_a_camera_that_is_calibrated_anew_is_followed(tmp_path, bench):
    infos = [*INFOS, *((20, topic, 64, 48, 120.0) for _, topic, *_ in INFOS)]
    found = edges(bench.replay(write_bag(tmp_path / 'bag', 40, SQUARE, infos=infos), **BESIDE))
    assert (found[:14], found[-14:]) == ([35] * 14, [38] * 14)
    assert found == sorted(found) and {*found} == {35, 38}


def test_one_camera_info_may_be_for_both(tmp_path, bench):
    bag = tmp_path / 'bag'
    with BagWriter(bag) as writer:
        writer.write('/cam/camera_info', camera_info_message(64, 48, 60.0), START_NS)
        writer.write('/cam/rgb', image_message(RGB, 'rgb8', START_NS, ''), START_NS)
        writer.write('/cam/ir', image_message(SQUARE, 'mono16', START_NS, ''), START_NS)
    report = bench.replay(bag, rgb_topic='/cam/rgb', x_topic='/cam/ir', **BESIDE)
    assert edges(report) == [35]


def test_a_bag_without_camera_infos_says_so_before_the_work(tmp_path, bench):
    bag = write_bag(tmp_path / 'bag', infos=INFOS[:1])
    with pytest.raises(DataError, match="'extrinsics', but .*/CameraInfo in '/x/camera_info', .*"
                                        ' in /rgb/camera_info: record them, or use the mode h'):
        bench.replay(bag, **BESIDE)
    assert not bench.asked and not (tmp_path / 'bag_masks').exists()


# What becomes 0 and 1, and what stays open


@pytest.mark.parametrize(('smoothing_s', 'last'), [(0.0, 18_000), (1000.0, 9_000)])
def test_the_range_of_x_follows_the_scene_as_it_is_told(tmp_path, bench, smoothing_s, last):
    """A hot patch in the last frame; the quantiles tell that no gain has changed."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 9_001, (30, 40), np.uint16) for _ in range(3)]
    frames[2][:8, :8] = 18_000
    bench.replay(write_bag(tmp_path / 'bag', x=frames), x_smoothing_s=smoothing_s)
    assert bench.asked[2][1][1] == pytest.approx(last, rel=0.02)


def test_the_scale_of_x_is_that_of_the_segmenter(tmp_path, tiny_card, monkeypatch):
    asked = []
    monkeypatch.setattr('rgbx_seg_ros.engines.open_engine', lambda *_: engine_of(
        lambda rgb, x, limits, sensors: asked.append(limits) or (rgb[..., 0], rgb[..., 0])))
    parameters = Parameters(model=str(tiny_card), x_normalization='fixed', x_range=(7.0, 9.0))
    replay(write_bag(tmp_path / 'bag'), Segmenter.from_parameters(parameters),
           parameters=parameters)
    assert asked == [(7.0, 9.0)] * 3


def test_a_range_that_the_frames_cannot_have_is_told(tmp_path, tiny_card):
    parameters = Parameters(model=str(tiny_card), device='cpu', x_normalization='celsius',
                            x_range=(0.0, 40.0))
    segmenter = Segmenter.from_parameters(parameters)
    with pytest.raises(DataError, match="x_malformed 3; first bad x .* 'celsius': 8-bit thermal"):
        replay(write_bag(tmp_path / 'bag', x=X.astype(np.uint8)), segmenter, parameters=parameters)


@pytest.mark.parametrize(('threshold', 'values'), [(0.7, {0, 1}), (0.9, {255})])
def test_pixels_of_which_the_network_is_not_sure_stay_open(tmp_path, bench, threshold, values):
    report = bench.replay(write_bag(tmp_path / 'bag'), confidence_threshold=threshold)
    assert {*np.unique(masks(report))} == values


@pytest.mark.parametrize('encoding', ['8UC1', '16UC1', '16SC1', '32SC1'])
def test_masks_have_the_encoding_of_those_of_the_node(tmp_path, bench, encoding):
    report = bench.replay(write_bag(tmp_path / 'bag'), label_encoding=encoding,
                          confidence_threshold=0.9)
    with BagReader(report.out) as reader:
        [*found] = reader.messages(['/segmentation/mask'])
    assert {message.encoding for *_, message in found} == {encoding}
    step = {'8UC1': 1, '16UC1': 2, '16SC1': 2, '32SC1': 4}[encoding]
    np.testing.assert_array_equal(
        found[0][2].data.view(f'<u{step}'), 255)


# What is read


def test_slop_and_offset_are_those_of_the_parameters_unless_they_are_given(tmp_path, bench):
    bag = write_bag(tmp_path / 'bag', x_offset_ns=40_000_000)
    parameters = Parameters(slop_ms=30.0)
    with pytest.raises(DataError, match='slop 30 ms'):
        replay(bag, bench.segmenter, parameters=parameters)
    for i, more in enumerate(({'slop_ms': 41.0}, {'x_offset_ms': -40.0})):
        assert replay(bag, bench.segmenter, tmp_path / f'{i}', parameters=parameters,
                      **more).pairs == 3
    parameters = Parameters(slop_ms=1.0, x_offset_ms=-40.0)
    assert replay(bag, bench.segmenter, tmp_path / 'out', parameters=parameters).pairs == 3


def test_the_transport_of_the_node_is_read_also_where_raw_frames_are_there(tmp_path, bench):
    """JPEG changes pixels, and with them masks."""
    bag = tmp_path / 'bag'
    with BagWriter(bag) as writer:
        for topic, pixels in (('/rgb/image', RGB), ('/x/image', X)):
            encoding = 'rgb8' if pixels.ndim == 3 else 'mono16'
            writer.write(topic, image_message(pixels, encoding, START_NS, ''), START_NS)
            data = cv2.imencode('.png', pixels // 2)[1].tobytes()
            kind = f'{"bgr8" if pixels.ndim == 3 else "mono16"}; png compressed '
            writer.write(f'{topic}/compressed', compressed_message(data, kind, START_NS, ''),
                         START_NS)
    report = bench.replay(bag, x_transport='compressed')
    assert report.topics == {'rgb': '/rgb/image', 'x': '/x/image/compressed'}
    assert bench.asked[0][0].max() == 4500


def test_x_that_lies_beside_rgb_is_told_at_the_end(tmp_path, bench, monkeypatch):
    monkeypatch.setattr(Rig, 'watch', lambda self, rgb, x, placed: setattr(
        self, 'drift', 'moving it by -9, +0 px would fit better'))
    report = bench.replay(write_bag(tmp_path / 'bag'), page=tmp_path / 'page.html')
    assert report.drift == 'moving it by -9, +0 px would fit better'
    assert 'drift moving it by -9, +0 px would fit better' in ' '.join(str(report).split())
    assert 'moving it by -9' in (tmp_path / 'page.html').read_text(encoding='utf-8')


def test_the_page_shows_x_as_it_lies_on_rgb(tmp_path, bench, monkeypatch):
    shown = []
    monkeypatch.setattr('rgbx_seg_ros.replay.replay.shrunk',
                        lambda sample: shown.append(sample.x.shape) or sample)
    bench.replay(write_bag(tmp_path / 'bag'), page=tmp_path / 'page.html', **SHIFTED)
    assert shown == [(48, 64)] * 3


# The command


def test_every_parameter_that_counts_is_one_of_the_node():
    assert {*USED} <= DEFAULTS.to_ros().keys()


def test_the_command_takes_the_file_of_the_node(tmp_path, tiny_card, command):
    bag, file = write_bag(tmp_path / 'bag', x_offset_ns=40_000_000), tmp_path / 'rig.yaml'
    file.write_text(f"""
rgbx_seg:
  ros__parameters:
    model: {tiny_card}
    device: cpu
    sync: {{slop_ms: 30.0, max_wait_ms: 10.0}}
    sync.x_offset_ms: -40
    confidence.threshold: 1.0
    registration:
      mode: homography
      homography: [1.6, 0, 16, 0, 1.6, 0, 0, 0, 1]
      x_size: [40, 30]
      rgb_size: [64, 48]
""")
    arguments = ['replay', bag, '--params-file', file, '--json', tmp_path / 'facts.json']
    with pytest.warns(UserWarning, match='count for nothing here: sync.max_wait_ms$'):
        code, out, err = command(*arguments)
    assert code == 0 and 'tiny on cpu float32' in out, err
    facts = json.loads((tmp_path / 'facts.json').read_text())
    assert (facts['pairs'], facts['drift']) == (3, '')
    with BagReader(tmp_path / 'bag_masks') as reader:
        [*found] = reader.messages(['/segmentation/mask'])
    assert all((message.data == 255).all() for *_, message in found)
    code, _, err = command(*arguments, '-o', tmp_path / 'out', '--x-offset-ms', 0)
    assert code == 2 and 'slop 30 ms' in err
    file.write_text('/**: {ros__parameters: {sync.slop: 30.0}}')
    code, _, err = command(*arguments, '-o', tmp_path / 'out')
    assert code == 2 and f"'{file}': parameter 'sync.slop' is unknown; did you mean" in err
    code, _, err = command('replay', bag)
    assert code == 2 and 'no model is named' in err


@pytest.mark.parametrize('verb', ['replay', 'evaluate'])
def test_freed_memory_is_kept_unless_the_file_says_otherwise(
        tmp_path, tiny_card, command, write_frames, monkeypatch, verb):
    kept, file = [], tmp_path / 'rig.yaml'
    module = {'replay': 'replay.command', 'evaluate': 'evaluation.evaluate'}[verb]
    monkeypatch.setattr(f'rgbx_seg_ros.{module}.keep_freed_memory', lambda: kept.append(verb))
    source = ([write_bag(tmp_path / 'bag'), '-o', tmp_path / 'out'] if verb == 'replay'
              else ['--data', write_frames(tmp_path / 'data', 1)])
    for keeps, times in (('false', 0), ('true', 1)):
        file.write_text(f'/**: {{ros__parameters: {{device: cpu, tune_allocator: {keeps}}}}}')
        code, _, err = command(verb, *source, '--params-file', file, '--model', tiny_card)
        assert code == 0 or 'exists already' in err
        assert kept == [verb] * times
