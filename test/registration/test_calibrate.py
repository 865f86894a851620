# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The command that calibrates: from folders and bags, what it writes and what it refuses."""

from argparse import ArgumentParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.bags.make_bag import make_bag
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.frames.images import read_image
from rgbx_seg_ros.registration import calibrate
from rgbx_seg_ros.registration.alignment import Alignment
from rgbx_seg_ros.registration.calibrate import bag_pairs, Calibration, folder_pairs
from rgbx_seg_ros.registration.warp import Homography
from support.bag_files import change_metadata, metadata
import yaml

DEMO = Path(__file__).parents[2] / 'demo'
NAMES = ('00537D', '00633D', '00881N', '01023N')
TRUTH = np.array([[2.1, 0.05, -25.0], [-0.04, 2.0, 6.0], [1e-5, 2e-5, 1.0]])
"""From X, 320x256, to RGB, 640x480."""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder of real colour frames with X, an inverted copy of them, in a known place."""
    root = tmp_path_factory.mktemp('pairs')
    for name in ('rgb', 'thermal'):
        (root / name).mkdir()
    for name in NAMES:
        rgb = cv2.imread(str(DEMO / 'rgb' / f'{name}.jpg'))
        x = cv2.GaussianBlur(255 - rgb[..., 1], (0, 0), 0.8)
        x = cv2.warpPerspective(x, TRUTH, (320, 256), flags=cv2.WARP_INVERSE_MAP)
        cv2.imwrite(str(root / 'rgb' / f'{name}.png'), rgb)
        cv2.imwrite(str(root / 'thermal' / f'{name}.png'), x)
    return root


def run(*arguments):
    parser = ArgumentParser()
    calibrate.add_arguments(parser)
    calibrate.main(parser.parse_args([str(argument) for argument in arguments]))


def test_the_file_it_writes_holds_the_homography_and_the_picture_shows_it(
        folder, tmp_path, capsys):
    out, picture = tmp_path / 'new.yaml', tmp_path / 'new.png'
    run(folder, '-o', out, '--picture', picture)
    parameters = yaml.safe_load(out.read_text())['/**']['ros__parameters']
    assert parameters['registration.mode'] == 'homography'
    assert (parameters['registration.x_size'], parameters['registration.rgb_size']) == (
        [320, 256], [640, 480])
    numbers = parameters['registration.homography']
    assert all(isinstance(number, float) for number in numbers)
    Homography(tuple(numbers), (320, 256), (640, 480))
    inside = np.float32([[[60, 60], [260, 60], [260, 200], [60, 200]]])
    error = (cv2.perspectiveTransform(inside, np.reshape(numbers, (3, 3)))
             - cv2.perspectiveTransform(inside, TRUTH))
    assert np.linalg.norm(error, axis=2).mean() < 1.0

    printed = capsys.readouterr().out
    assert out.read_text() in printed
    assert 'pairs           4  X 320x256, RGB 640x480' in printed
    for word in ('agreement', 'residual', 'uncertainty', str(out), str(picture)):
        assert word in printed
    shown = read_image(picture)
    assert shown.shape == (960, 1280, 3)
    # The edges drawn over RGB: after, more of them lie on edges of RGB.
    rgb = calibrate.folder_pairs(folder, 9)
    steep = []
    for left in (0, 640):
        panel = shown[480:, left:left + 640].astype(int)
        drawn = (np.abs(panel - (255, 60, 40)) < 3).all(axis=2)
        assert 500 < drawn.sum() < 60_000
        best = 0.0
        for frame, _ in rgb:
            grey = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (0, 0), 1.5)
            slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
            best = max(best, slope[drawn].mean() / slope.mean())
        steep.append(best)
    assert steep[1] > 1.5 * steep[0]


@pytest.mark.parametrize(('before', 'noted'), [(0.79, False), (0.8, True), (0.9, True)])
def test_frames_that_matched_already_are_told(before, noted):
    geometry = Homography(tuple(TRUTH.ravel()), (320, 256), (640, 480))
    text = str(Calibration(Alignment(TRUTH, np.ones(4), 0.8, 1.0), geometry, 4, before))
    assert ('registration.mode none may do' in text) == noted
    assert f'{before:.0%} before' in text and max(map(len, text.splitlines())) <= 80


def test_the_pairs_of_a_bag_are_those_of_the_folder(folder, tmp_path):
    bag = tmp_path / 'bag'
    make_bag(folder, bag, offset_ms=7.0)
    for (rgb, x), (other_rgb, other_x) in zip(folder_pairs(folder, 30), bag_pairs(bag, 30),
                                              strict=True):
        np.testing.assert_array_equal(rgb, other_rgb)
        np.testing.assert_array_equal(x, other_x)
    assert len(bag_pairs(bag, 2)) == 2
    np.testing.assert_array_equal(bag_pairs(bag, 2)[1][1], folder_pairs(folder, 4)[3][1])


def test_a_bag_is_told_from_a_folder_and_calibrated(folder, tmp_path, monkeypatch):
    bag = tmp_path / 'bag'
    make_bag(folder, bag)
    given = []

    def remember(pairs):
        given.extend(pairs)
        raise DataError('enough seen')
    monkeypatch.setattr(calibrate, 'calibrate', remember)
    for source in (bag, next(bag.glob('*.mcap')), bag / 'metadata.yaml'):
        with pytest.raises(DataError, match='enough seen'):
            run(source, '-o', tmp_path / 'new.yaml', '--pairs', 3)
    assert len(given) == 9


def test_pairs_are_spread_over_the_source(folder):
    first, last = folder_pairs(folder, 2)
    everything = folder_pairs(folder, 30)
    np.testing.assert_array_equal(first[0], everything[0][0])
    np.testing.assert_array_equal(last[0], everything[-1][0])


def test_the_invalid_value_is_no_measurement(folder, tmp_path):
    x = read_image(folder / 'thermal' / f'{NAMES[0]}.png')
    value = int(np.median(x))
    measured = folder_pairs(folder, 1, invalid=value)[0][1]
    np.testing.assert_array_equal(np.isnan(measured), x == value)
    np.testing.assert_array_equal(measured[x != value], x[x != value])


@pytest.mark.parametrize('option', ['-o', '--picture'])
def test_a_file_that_exists_is_kept(folder, tmp_path, option):
    existing = tmp_path / 'mine'
    existing.write_text('precious')
    paths = {'-o': tmp_path / 'new.yaml', '--picture': tmp_path / 'new.png', option: existing}
    with pytest.raises(DataError, match=f"mine' exists already.*{option}$"):
        run(folder, *(word for pair in paths.items() for word in pair))
    assert existing.read_text() == 'precious' and list(tmp_path.iterdir()) == [existing]


def test_a_folder_that_is_missing_is_told_before_the_work(folder, tmp_path, capsys):
    with pytest.raises(DataError, match="new.png': its folder does not exist"):
        run(folder, '-o', tmp_path / 'new.yaml', '--picture', tmp_path / 'none' / 'new.png')
    assert not capsys.readouterr().out and not list(tmp_path.iterdir())


def test_frames_that_do_not_match_leave_no_file(folder, tmp_path):
    (tmp_path / 'rgb').symlink_to(folder / 'rgb')
    (tmp_path / 'thermal').mkdir()
    for i, name in enumerate(NAMES):
        noise = np.random.default_rng(i).integers(0, 255, (256, 320), np.uint8)
        cv2.imwrite(str(tmp_path / 'thermal' / f'{name}.png'), noise)
    out = tmp_path / 'new.yaml'
    with pytest.raises(DataError, match='too few edges in common|did not converge'):
        run(tmp_path, '-o', out, '--picture', tmp_path / 'new.png')
    assert not out.exists() and not (tmp_path / 'new.png').exists()


def test_sources_that_cannot_be_are_refused(folder, tmp_path):
    with pytest.raises(DataError, match='is not a folder'):
        run(tmp_path / 'nowhere', '-o', tmp_path / 'new.yaml')
    with pytest.raises(ParameterError, match='--pairs is 2, allowed is 3 or more'):
        run(folder, '-o', tmp_path / 'new.yaml', '--pairs', 2)
    bag = tmp_path / 'bag'
    make_bag(folder, bag, offset_ms=80.0, rate_hz=2.0)
    with pytest.raises(DataError, match='holds no pair.*check the slop and the offset'):
        bag_pairs(bag, 30)
    assert len(bag_pairs(bag, 30, x_offset_ms=-80.0)) == 4
    topics = metadata(bag)['topics_with_message_count']
    empty = {**topics[0], 'message_count': 0}
    empty['topic_metadata'] = {**empty['topic_metadata'], 'name': '/cam'}
    change_metadata(bag, topics_with_message_count=[*topics, empty])
    with pytest.raises(DataError, match='nothing was recorded in /cam: name another topic'):
        bag_pairs(bag, 30, rgb_topic='/cam')
    with pytest.raises(ParameterError, match='slop is -1'):
        bag_pairs(bag, 30, slop_ms=-1)
    with pytest.raises(DataError, match='must differ'):
        bag_pairs(bag, 30, x_topic='/rgb/image')
