# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Selection: pairs far enough apart, and near-duplicates left out."""

import json

import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import BagWriter, image_message
from rgbx_seg_ros.extraction.extract import Choice, extract
from rgbx_seg_ros.extraction.selection import change
from rgbx_seg_ros.frames.images import read_image, read_rgb
from rgbx_seg_ros.resources import share_dir
from support.replay_bags import PERIOD_NS, START_NS, write_pairs

DEMO = share_dir() / 'demo'
RGB, THERMAL = read_rgb(DEMO / 'rgb' / '00537D.jpg'), read_image(DEMO / 'thermal' / '00537D.png')


def names_kept(folder):
    """Return the numbers of the pairs in the manifest."""
    stamps = (json.loads(line)['rgb']['stamp']
              for line in (folder / 'manifest.jsonl').read_text().splitlines())
    return [(stamp['sec'] * 10 ** 9 + stamp['nanosec'] - START_NS) // PERIOD_NS
            for stamp in stamps]


def write_frames(path, frames):
    """Write pairs of RGB and X, ten a second."""
    with BagWriter(path) as bag:
        for i, (rgb, x) in enumerate(frames):
            time_ns = START_NS + i * PERIOD_NS
            bag.write('/rgb/image', image_message(rgb, 'rgb8', time_ns, 'f'), time_ns)
            encoding = {'uint8': 'mono8', 'uint16': 'mono16', 'float32': '32FC1'}[x.dtype.name]
            bag.write('/x/image', image_message(x, encoding, time_ns, 'f'), time_ns)
    return path


def test_pairs_lie_apart_in_the_time_of_their_stamps(tmp_path):
    bag = write_pairs(tmp_path / 'bag', 21)
    for every_s, kept in ((0.3, [*range(0, 21, 3)]), (0.25, [*range(0, 21, 3)]),
                          (0.1, [*range(21)]), (100.0, [0])):
        report = extract([bag], tmp_path / f'{every_s}', choice=Choice(every_s))
        assert names_kept(tmp_path / f'{every_s}') == kept
        assert report.pairs == 21
        assert report.left_out.get('--every', 0) == 21 - len(kept) == 21 - report.written


@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.float32])
def test_a_scene_that_stands_still_is_kept_once_for_all_its_noise(tmp_path, kind):
    rng = np.random.default_rng(0)
    scale = 1 if kind == np.uint8 else 20 if kind == np.uint16 else 0.1

    def seen(rgb, thermal):
        rgb = (rgb + rng.normal(0, 4, rgb.shape)).clip(0, 255).astype(np.uint8)
        thermal = thermal.astype(float) * scale + rng.normal(0, 4 * scale, thermal.shape)
        top = np.iinfo(kind).max if kind != np.float32 else np.inf
        return rgb, thermal.clip(0, top).astype(kind)

    moved = np.roll(THERMAL, 40, axis=1)
    frames = [seen(*pair) for pair in [
        *[(RGB, THERMAL)] * 4,  # stands still
        *[(RGB, moved)] * 3,  # X alone has changed
        *[(np.roll(RGB, 40, axis=1), moved)] * 2]]  # the camera alone
    report = extract([write_frames(tmp_path / 'bag', frames)], tmp_path / 'out',
                     choice=Choice(min_change=2.0))
    assert names_kept(tmp_path / 'out') == [0, 4, 7]
    assert report.left_out == {'--min-change': 6}
    changes = [json.loads(line)['change']
               for line in (tmp_path / 'out' / 'manifest.jsonl').read_text().splitlines()]
    assert changes[0] is None and min(changes[1:]) >= 2.0


def test_change_is_in_percent_of_the_contrast():
    before = np.linspace(0, 1000, 64 * 48, dtype=np.float32).reshape(48, 64)
    span = np.subtract(*np.percentile(before, (99, 1)))
    assert change(before, before) == 0
    assert change(before, before + 0.05 * span) == pytest.approx(5, rel=1e-3)
    assert change(7 * before, 7 * (before + 0.05 * span)) == pytest.approx(5, rel=1e-3)
    flat = np.full((48, 64), 9, np.float32)
    assert change(flat, flat + 0.5) == pytest.approx(50)


def test_a_slow_change_adds_up_from_the_frame_that_was_kept(tmp_path):
    frames = [(np.roll(RGB, 2 * i, axis=1), np.roll(THERMAL, 2 * i, axis=1)) for i in range(12)]
    extract([write_frames(tmp_path / 'bag', frames)], tmp_path / 'out',
            choice=Choice(min_change=4.0))
    kept = names_kept(tmp_path / 'out')
    assert kept[0] == 0 and 2 < len(kept) < 8 and min(np.diff(kept)) > 1


def test_pixels_without_a_measurement_do_not_hide_the_others(tmp_path):
    deep = THERMAL.astype(np.float32)
    deep[:100] = np.nan
    frames = [(RGB, deep), (RGB, deep), (RGB, np.roll(deep, 40, axis=1))]
    extract([write_frames(tmp_path / 'bag', frames)], tmp_path / 'out',
            choice=Choice(min_change=2.0))
    assert names_kept(tmp_path / 'out') == [0, 2]


def test_small_values_of_floats_count_by_their_contrast_too(tmp_path):
    shallow = (THERMAL / 255 * 0.05).astype(np.float32)  # five centimetres of depth
    frames = [(RGB, shallow), (RGB, shallow), (RGB, np.roll(shallow, 40, axis=1))]
    extract([write_frames(tmp_path / 'bag', frames)], tmp_path / 'out',
            choice=Choice(min_change=2.0))
    assert names_kept(tmp_path / 'out') == [0, 2]


def test_a_clock_that_was_set_back_does_not_end_the_choice(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for i, step in enumerate((50, 51, 52, 53, 0, 1, 2, 3)):
            time_ns, receive_ns = START_NS + step * PERIOD_NS, START_NS + i * 10 ** 9
            bag.write('/rgb/image', image_message(RGB, 'rgb8', time_ns, 'f'), receive_ns)
            bag.write('/x/image', image_message(THERMAL, 'mono8', time_ns, 'f'), receive_ns)
    extract([tmp_path / 'bag'], tmp_path / 'out', choice=Choice(every_s=0.2))
    kept = names_kept(tmp_path / 'out')
    assert 50 in kept and min(kept) < 4 and len(kept) < 8


def test_both_together_and_an_extraction_that_goes_on_choose_the_same(tmp_path):
    bag = write_frames(tmp_path / 'bag', [
        (np.roll(RGB, 2 * i, axis=1), np.roll(THERMAL, 2 * i, axis=1)) for i in range(12)])
    options = {'choice': Choice(0.2, 3.0)}
    extract([bag], tmp_path / 'out', **options)
    path = tmp_path / 'out' / 'manifest.jsonl'
    whole = path.read_bytes()
    path.write_bytes(b''.join(whole.splitlines(keepends=True)[:2]))
    extract([bag], tmp_path / 'out', **options)
    assert path.read_bytes() == whole
