# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: real node, real middleware, real frames."""

import json
from pathlib import Path
import subprocess
import sys

import pytest
from rgbx_seg_ros.bags.storage import BagReader
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.frames.images import read_image
from rgbx_seg_ros.resources import share_dir
import yaml

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from rgbx_seg_ros.errors import RgbxSegError  # noqa: E402,I100
from rgbx_seg_ros.node.demo import _replace, MARKER  # noqa: E402


def demo(*arguments):
    return subprocess.run([sys.executable, '-m', 'rgbx_seg_ros', 'demo', *map(str, arguments)],
                          capture_output=True, text=True, timeout=200)


@pytest.mark.long
def test_the_demo_leaves_pictures_a_bag_and_metrics(tmp_path):
    out = tmp_path / 'demo'
    run = demo('--out', out)
    assert run.returncode == 0, run.stderr
    assert str(out / 'contact_sheet.png') in run.stdout
    assert max(map(len, run.stdout.splitlines()[:-1])) < 80

    metrics = json.loads((out / 'metrics.json').read_text())
    assert metrics['pairs_in'] == 10
    # Every pair is a mask or counted; on a busy machine some are superseded.
    missed = sum(count for name, count in metrics['drops'].items() if not name.startswith('x_'))
    assert 0 < metrics['masks_out'] == 10 - missed
    assert 0 < metrics['inference_ms']['p50'] <= metrics['capture_to_publish_ms']['p50']

    assert len(list(out.glob('overlay_*.png'))) == metrics['masks_out']
    sheet = read_image(out / 'contact_sheet.png')
    assert sheet.shape[2] == 3 and sheet.std() > 10
    with BagReader(out / 'recording') as bag:
        assert bag.counts['/segmentation/mask'] == metrics['masks_out']
        assert bag.counts['/segmentation/palette'] == 1


@pytest.mark.long
def test_the_demo_shows_the_ground_and_its_bag_holds_what_rviz_shows(tmp_path):
    out = tmp_path / 'demo'
    run = demo('--out', out, '--ground', '--rate', '1')
    assert run.returncode == 0, run.stderr
    assert str(out / 'ground_sheet.png') in run.stdout
    masks = json.loads((out / 'metrics.json').read_text())['masks_out']
    sheet = read_image(out / 'ground_sheet.png')
    assert sheet.shape[1] == 960 and (sheet.shape[0] - 26) // 240 == masks
    red = (sheet[26:, 640:] == (255, 60, 40)).all(axis=2)
    assert 20 < red.sum() < red.size / 10  # feet of people, and no more
    with BagReader(out / 'recording') as bag:
        for topic in ('ground_grid', 'obstacle_points'):
            assert bag.counts[f'/segmentation/{topic}'] == masks
        assert bag.counts['/tf_static'] == 1


@pytest.mark.parametrize('name', ['thesis.tex', 'metrics.json', 'runs/metrics.json'])
def test_a_folder_of_something_else_is_left_alone(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('important')
    run = demo('--out', tmp_path)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1 and 'choose another folder' in run.stderr
    assert [one for one in tmp_path.rglob('*') if one.is_file()] == [path]


def test_only_what_a_demo_has_written_gives_way_to_a_new_one(tmp_path):
    out = tmp_path / 'out'
    for number in (1, 2):
        new = tmp_path / f'new_{number}'
        (new / 'recording').mkdir(parents=True)
        (new / 'recording' / f'{number}.mcap').write_text('')
        _replace(out, new)
        names = {str(path.relative_to(out)) for path in out.rglob('*')}
        assert names == {MARKER, 'recording', f'recording/{number}.mcap'}
    mine = out / 'recording' / 'notes.txt'
    mine.write_text('important')
    with pytest.raises(RgbxSegError, match="such as 'notes.txt': choose another folder"):
        _replace(out, tmp_path / 'new_1')
    assert mine.exists() and (out / 'recording' / '2.mcap').exists()


def test_an_argument_that_cannot_be_leaves_the_demo_before(tmp_path):
    new = tmp_path / 'new'
    new.mkdir()
    (new / 'overlay.png').write_text('old')
    _replace(tmp_path / 'out', new)
    for words in (('--model', 'nonesuch'), ('--rate', '0')):
        assert demo('--out', tmp_path / 'out', *words).returncode == 2
        assert (tmp_path / 'out' / 'overlay.png').read_text() == 'old'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['new', 'out']


def test_a_model_that_cannot_run_is_named(tmp_path):
    run = demo('--out', tmp_path / 'demo', '--model', 'nonesuch')
    assert run.returncode == 2
    assert 'nonesuch' in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_no_frame_of_the_demo_was_trained_on():
    frames = set(FolderDataset(share_dir() / 'demo').names)
    assert len(frames) <= 10
    for path in sorted(Path(share_dir(), 'config', 'train').glob('msrs*.yaml')):
        text = path.read_text()
        if path.stem.startswith('msrs_scene'):  # whose labels leave them out from the start
            assert 'The frames of the demo, their street and their neighbours have no label' in (
                ' '.join(text.replace('#', ' ').split()))
            continue
        excluded = set(yaml.safe_load(text)['exclude'])
        # 00537D belongs to the test split; 00633D, 00881N and 01023N to neither.
        assert frames - excluded == {'00537D', '00633D', '00881N', '01023N'}
