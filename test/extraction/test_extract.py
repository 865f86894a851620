# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Extract: the pairs of a replay, pixel for pixel, in a folder that leads back into the bag."""

import json
import shutil

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.bags.make_bag import make_bag
from rgbx_seg_ros.bags.storage import (
    BagReader,
    BagWriter,
    compressed_message,
    image_message,
    LABEL_TOPIC,
)
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.extraction.extract import extract, USED
from rgbx_seg_ros.frames.images import read_image
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.messages.images import stamp_ns
from rgbx_seg_ros.parameters import DEFAULTS, Parameters
from rgbx_seg_ros.registration.rig import Rig
from rgbx_seg_ros.replay.replay import replay
from rgbx_seg_ros.resources import share_dir
from support.bag_files import camera_info_message, ros_1_bag, split_bag
from support.replay_bags import Engine, frame, PERIOD_NS, START_NS, write_pairs
from support.stand_ins import engine_of

DEMO = share_dir() / 'demo'
RNG = np.random.default_rng(7)


def manifest(folder):
    """Return the lines of a manifest."""
    return [json.loads(line) for line in (folder / 'manifest.jsonl').read_text().splitlines()]


def stamp(side):
    """Return the stamp of one side of a line, in ns."""
    return side['stamp']['sec'] * 10 ** 9 + side['stamp']['nanosec']


def jittery_bag(path):
    """
    Write ten seconds: RGB at 10 Hz, X at 9 Hz with jitter and 20 ms late, dead for three of them.

    Messages are received late and out of order between the streams, as over a network.
    """
    messages = []
    for i in range(100):
        time_ns = START_NS + i * PERIOD_NS + int(RNG.uniform(-4e6, 4e6))
        messages.append((time_ns + int(RNG.uniform(5e6, 60e6)), '/rgb/image',
                         image_message(frame(i)[0], 'rgb8', time_ns, 'front_camera')))
    for i in range(90):
        time_ns = START_NS + round(i * 1e9 / 9) + int(20e6 + RNG.uniform(-30e6, 30e6))
        if not 30 <= i < 57:
            messages.append((time_ns + int(RNG.uniform(5e6, 200e6)), '/x/image',
                             image_message(frame(i)[1], 'mono8', time_ns, 'infrared')))
    messages.sort(key=lambda message: message[0])
    with BagWriter(path) as bag:
        for receive_ns, topic, message in messages:
            bag.write(topic, message, receive_ns)
    return path


def test_the_pairs_are_those_of_a_replay_also_with_jitter_and_a_dead_sensor(tmp_path, tiny_card):
    bag = jittery_bag(tmp_path / 'bag')
    seen = []

    def note(rgb, x, limits, sensors):
        seen.append((rgb.copy(), x.copy()))
        return np.zeros(rgb.shape[:2], np.uint8), np.full(rgb.shape[:2], 200, np.uint8)

    replayed = replay(bag, Segmenter(load_card(tiny_card), engine_of(note)), slop_ms=50)
    report = extract([bag], tmp_path / 'out', parameters=Parameters(slop_ms=50.0))
    assert 40 < report.pairs == replayed.pairs == report.written < 80
    assert report.drops == replayed.drops and report.drops['rgb_no_partner'] > 20
    with BagReader(replayed.out) as reader:
        stamps = [stamp_ns(message.header)
                  for _, _, message in reader.messages(['/segmentation/mask'])]
    lines = manifest(tmp_path / 'out')
    assert [stamp(line['rgb']) for line in lines] == stamps
    for line, (rgb, x) in zip(lines, seen, strict=True):
        np.testing.assert_array_equal(read_image(tmp_path / 'out' / line['rgb']['file']), rgb)
        np.testing.assert_array_equal(read_image(tmp_path / 'out' / line['x']['file']), x)
        assert line['offset_ns'] == stamp(line['x']) - stamp(line['rgb'])


def test_real_frames_survive_pixel_for_pixel_in_the_data_set_folder(tmp_path, command):
    make_bag(DEMO, tmp_path / 'night', jitter_ms=8, offset_ms=-12)
    code, out, _ = command('extract', tmp_path / 'night', '--out', tmp_path / 'out', '--x-kind',
                           'thermal')
    assert code == 0
    assert 'rgb: /rgb/image (colour, 10), found by name and type' in out
    assert 'x: /x/image (grey, 10), found by name and type' in out
    source, found = FolderDataset(DEMO), FolderDataset(tmp_path / 'out')
    assert (len(found), found.x_folder, found.X_KIND) == (10, 'thermal', 'thermal')
    for i in range(10):
        np.testing.assert_array_equal(found[i].rgb, source[i].rgb)
        np.testing.assert_array_equal(found[i].x, source[i].x)
        assert found[i].x.dtype == source[i].x.dtype
    code, out, _ = command('data', 'check', tmp_path / 'out', '--dataset', 'folder')
    assert code == 0 and out.endswith('whole\n')


@pytest.mark.parametrize(('encoding', 'x'), [
    ('mono16', RNG.integers(0, 2 ** 16, (5, 7), np.uint16)),
    ('16UC1', np.uint16([[0, 1], [65534, 65535]])),
    ('32FC1', np.float32([[np.nan, -1e-30, 1.5], [3.4e38, -273.15, 0.0]])),
    ('rgb8', RNG.integers(0, 256, (5, 7, 3), np.uint8)),
    ('rgb16', RNG.integers(0, 2 ** 16, (5, 7, 3), np.uint16))])
def test_every_type_of_x_comes_back_as_it_was(tmp_path, encoding, x):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write('/rgb/image', image_message(frame(0)[0], 'rgb8', START_NS, 'front'), START_NS)
        bag.write('/x/image', image_message(x, encoding, START_NS, 'x'), START_NS)
    extract([tmp_path / 'bag'], tmp_path / 'out')
    [sample] = FolderDataset(tmp_path / 'out')
    assert sample.x.dtype == x.dtype
    np.testing.assert_array_equal(sample.x, x)
    ending = 'tiff' if x.dtype == np.float32 else 'png'
    assert [path.suffix for path in (tmp_path / 'out' / 'x').iterdir()] == [f'.{ending}']


def test_of_a_camera_that_sends_jpeg_the_files_are_kept(tmp_path):
    rgb, x, _ = frame(0)
    sent = cv2.imencode('.jpg', rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()
    swapped = compressed_message(sent, 'rgb8; jpeg compressed rgb8', START_NS + PERIOD_NS, 'front')
    with BagWriter(tmp_path / 'bag') as bag:
        for i, message in enumerate((compressed_message(
                sent, 'bgr8; jpeg compressed bgr8', START_NS, 'front'), swapped)):
            time_ns = START_NS + i * PERIOD_NS
            bag.write('/rgb/image/compressed', message, time_ns)
            bag.write('/x/image', image_message(x, 'mono8', time_ns, 'x'), time_ns)
    extract([tmp_path / 'bag'], tmp_path / 'out', rgb_format='jpg')
    kept, encoded = sorted((tmp_path / 'out' / 'rgb').iterdir())
    pixels = cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(cv2.imread(str(kept)), pixels)
    assert sent[-200:] == kept.read_bytes()[-200:]
    # There red and blue stand swapped in the file: what was seen is encoded anew.
    error = np.abs(cv2.imread(str(encoded)).astype(int) - pixels[..., ::-1])
    assert error.mean() < 20 < np.abs(pixels[..., ::-1].astype(int) - pixels).mean()


def test_split_bags_bags_without_metadata_and_those_of_ros_1_give_the_same(tmp_path):
    options = {'rgb_topic': '/rgb', 'x_topic': '/x'}
    bag = split_bag(tmp_path / 'bag')
    extract([bag], tmp_path / 'whole', **options)
    (tmp_path / 'plain').mkdir()
    for path in bag.glob('*.mcap'):
        shutil.copy(path, tmp_path / 'plain')
    extract([tmp_path / 'plain'], tmp_path / 'without', **options)
    ros_1_bag(tmp_path / 'old.bag', bag)
    extract([tmp_path / 'old.bag'], tmp_path / 'old', **options)

    def content(folder):
        return [(line['rgb']['stamp'], line['x']['stamp'],
                 *((folder / line[side]['file']).read_bytes() for side in ('rgb', 'x')))
                for line in manifest(folder)]
    assert len(content(tmp_path / 'whole')) == 6
    assert content(tmp_path / 'whole') == content(tmp_path / 'without') == content(
        tmp_path / 'old')


def test_a_manifest_leads_back_into_the_bag(tmp_path, tiny_card):
    bag = write_pairs(tmp_path / 'bag', 5, offset_ns=7_000_000)
    extract([bag], tmp_path / 'out')
    segmenter = Segmenter(load_card(tiny_card), Engine())
    with BagReader(bag) as reader, BagWriter(tmp_path / 'labelled') as labelled:
        for topic, receive_ns, message in reader.messages(['/rgb/image', '/x/image']):
            labelled.write(topic, message, receive_ns)
        for line in manifest(tmp_path / 'out'):
            mask = segmenter(*(read_image(tmp_path / 'out' / line[side]['file'])
                               for side in ('rgb', 'x'))).mask
            labelled.write(LABEL_TOPIC, image_message(
                mask, 'mono8', stamp(line['rgb']), line['rgb']['frame_id']), stamp(line['rgb']))
    report = replay(tmp_path / 'labelled', segmenter)
    assert report.scored == 5 and report.scores['mean_iou'] == 1.0


def test_the_manifest_tells_where_frames_come_from_and_how_the_cameras_see(tmp_path):
    with BagWriter(tmp_path / 'my bag') as bag:
        bag.write('/front/camera_info', camera_info_message(16, 12, 20.0), START_NS)
        bag.write('/front/image', image_message(frame(0)[0], 'rgb8', START_NS, 'eye'), START_NS)
        bag.write('/thermal/image', image_message(frame(0)[1], 'mono8', START_NS + 5, 'ir'),
                  START_NS + 5)
    extract([tmp_path / 'my bag'], tmp_path / 'out')
    [line] = manifest(tmp_path / 'out')
    name = f'my_bag_{START_NS // 10 ** 9}_{START_NS % 10 ** 9:09d}'
    assert (line['name'], line['bag']) == (name, str(tmp_path / 'my bag'))
    optics = line['rgb'].pop('camera_info')
    assert (optics['width'], optics['height'], optics['k'][0]) == (16, 12, 20.0)
    sec, nanosec = divmod(START_NS, 10 ** 9)
    assert line['rgb'] == {'file': f'rgb/{name}.png', 'topic': '/front/image',
                           'stamp': {'sec': sec, 'nanosec': nanosec}, 'frame_id': 'eye'}
    assert line['x'] == {
        'file': f'thermal/{name}.png', 'topic': '/thermal/image', 'camera_info': None,
        'stamp': {'sec': sec, 'nanosec': nanosec + 5}, 'frame_id': 'ir'}
    assert (line['offset_ns'], line['registration'], line['change']) == (5, 'none', None)


def test_frames_are_registered_where_the_parameters_say_so(tmp_path, command):
    write_pairs(tmp_path / 'bag', 2)
    (tmp_path / 'rig.yaml').write_text("""
/**:
  ros__parameters:
    registration:
      mode: homography
      homography: [1.0, 0, 3.0, 0, 1.0, 0, 0, 0, 1]
      x_size: [16, 12]
      rgb_size: [16, 12]
    confidence.threshold: 0.5
""")
    with pytest.warns(UserWarning, match='count for nothing here: confidence.threshold'):
        code, _, _ = command('extract', tmp_path / 'bag', '--out', tmp_path / 'out',
                             '--params-file', tmp_path / 'rig.yaml')
    assert code == 0
    assert (tmp_path / 'out' / 'x').is_dir()
    parameters = Parameters(
        registration_mode='homography', registration_homography=(1, 0, 3, 0, 1, 0, 0, 0, 1),
        registration_x_size=(16, 12), registration_rgb_size=(16, 12))
    rig = Rig(parameters, load_card('msrs_scene').x, {}.get)
    for i, sample in enumerate(FolderDataset(tmp_path / 'out')):
        np.testing.assert_array_equal(sample.x, rig.place(frame(i)[1], (16, 12)))
        assert not np.array_equal(sample.x, frame(i)[1])
    assert {line['registration'] for line in manifest(tmp_path / 'out')} == {'homography'}


def test_a_pair_that_cannot_be_registered_is_left_out_and_told(tmp_path):
    parameters = Parameters(registration_mode='homography', registration_x_size=(5, 5),
                            registration_rgb_size=(16, 12))
    with pytest.raises(DataError, match=r'holds no pair.*x_unregistered 3; first bad x message'):
        extract([write_pairs(tmp_path / 'bag', 3)], tmp_path / 'out', parameters=parameters)


def test_two_bags_of_one_name_fill_one_folder(tmp_path):
    bags = [write_pairs(tmp_path / name / 'bag', 3) for name in ('a', 'b')]
    report = extract(bags, tmp_path / 'out')
    assert (report.pairs, report.total) == (6, 6)
    lines = manifest(tmp_path / 'out')
    assert [line['bag'] for line in lines] == [str(bag) for bag in bags for _ in range(3)]
    assert len({line['name'] for line in lines}) == len(FolderDataset(tmp_path / 'out')) == 6


def test_a_clock_that_was_set_back_gives_a_stamp_again(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for lap in range(2):
            for i in range(4):
                time_ns, receive_ns = START_NS + i * PERIOD_NS, START_NS + (4 * lap + i) * 10 ** 9
                for topic, pixels, encoding in (('/rgb/image', frame(4 * lap + i)[0], 'rgb8'),
                                                ('/x/image', frame(4 * lap + i)[1], 'mono8')):
                    bag.write(topic, image_message(pixels, encoding, time_ns, 'f'), receive_ns)
    report = extract([tmp_path / 'bag'], tmp_path / 'out')
    lines = manifest(tmp_path / 'out')
    assert report.total == len({line['name'] for line in lines}) == len(lines) > 4
    for line in lines:
        lap = line['name'].endswith('_2')
        i = (stamp(line['rgb']) - START_NS) // PERIOD_NS
        np.testing.assert_array_equal(read_image(tmp_path / 'out' / line['rgb']['file']),
                                      frame(4 * lap + i)[0])


def test_a_bag_without_pairs_beside_another_one_is_warned_of(tmp_path):
    lone = write_pairs(tmp_path / 'lone', 2, offset_ns=10 ** 9)
    with pytest.raises(DataError, match='holds no pair: 2 frames in /rgb/image'):
        extract([lone], tmp_path / 'none')
    with pytest.warns(UserWarning, match="lone' holds no pair"):
        report = extract([lone, write_pairs(tmp_path / 'bag', 2)], tmp_path / 'out')
    assert (report.pairs, report.total, report.drops['rgb_no_partner']) == (2, 2, 2)


def test_every_parameter_that_counts_is_one_of_the_node():
    assert {*USED} <= DEFAULTS.to_ros().keys()


def test_a_model_tells_what_x_measures(tmp_path, command):
    write_pairs(tmp_path / 'bag', 2)
    code, _, _ = command('extract', tmp_path / 'bag', '-o', tmp_path / 'out', '--model',
                         'potholes')
    assert code == 0 and FolderDataset(tmp_path / 'out').X_KIND == 'depth'
    assert (tmp_path / 'out' / 'depth').is_dir()


def test_bags_whose_topics_measure_different_things_are_not_mixed(tmp_path):
    bags = []
    for kind in ('thermal', 'depth'):
        with BagWriter(tmp_path / kind) as bag:
            for topic, pixels, encoding in (('/rgb', frame(0)[0], 'rgb8'),
                                            (f'/{kind}', frame(0)[1], 'mono8')):
                bag.write(topic, image_message(pixels, encoding, START_NS, 'f'), START_NS)
        bags.append(tmp_path / kind)
    with pytest.raises(DataError, match='X is of several kinds: depth, thermal by the topics '
                                        '/depth, /thermal'):
        extract(bags, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_the_data_set_tells_which_frames_follow_each_other(tmp_path):
    extract([write_pairs(tmp_path / 'bag', 3, offset_ns=5_000_000)], tmp_path / 'out')
    [recording] = FolderDataset(tmp_path / 'out').recordings()
    assert [stamp for _, stamp in recording] == [
        START_NS + i * PERIOD_NS + 5_000_000 for i in range(3)]
    assert [name for name, _ in recording] == FolderDataset(tmp_path / 'out').names
