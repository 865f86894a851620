# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a replay tells: its report in the terminal, in JSON, and as a page."""

import dataclasses
import hashlib
import json
import os
import re
import sys
from xml.etree import ElementTree

import pytest
from rgbx_seg_ros.__main__ import main
from rgbx_seg_ros.bags.make_bag import make_bag
from rgbx_seg_ros.evaluation.metrics import mean, Tally
from rgbx_seg_ros.replay.replay import replay
from support.replay_bags import (
    frame,
    label_message,
    matrix_of,
    PERIOD_NS,
    read,
    rgb_message,
    START_NS,
    write_bag,
    write_folder,
    write_pairs,
    x_message,
)


def test_the_command_prints_a_report_that_fits_80_columns(
        tmp_path, tiny_card, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = write_folder(tmp_path / 'frames')
    make_bag(folder, tmp_path / 'bag', jitter_ms=40)
    command = ['rgbx-seg', 'replay', 'bag', '--model', str(tiny_card), '--device', 'cpu',
               '-o', 'out', '--json', 'report.json', '--slop-ms', '20']
    monkeypatch.setattr(sys, 'argv', command)
    assert main() == 0
    out, _ = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    assert re.search('^RGB frames +6  /rgb/image$', out, re.MULTILINE)
    for text in ('rgb_no_partner', 'X minus RGB: median',
                 'tiny on cpu float32', 'scored against /ground_truth/mask', 'person',
                 'wrote out'):
        assert text in out
    facts = json.loads((tmp_path / 'report.json').read_text(), parse_constant=pytest.fail)
    assert next(iter(facts)) == 'format' and facts['format'] == 1
    assert facts['messages'] == {'rgb': 6, 'x': 6, 'label': 6}
    assert facts['pairs'] == len(read('out', '/segmentation/mask')) == facts['scored']
    assert facts['pairs'] + facts['drops']['rgb_no_partner'] == 6
    assert main() == 2
    assert "'out' exists already" in capsys.readouterr().err


def test_names_with_hyphens_stay_whole_in_the_report(tmp_path, segmenter):
    topic = '/front-left-camera/colour-image-of-the-upper-mast'
    bag = write_bag(tmp_path / 'bag', [
        (topic, rgb_message(0)), ('/x/image', x_message(0))])
    report = replay(bag, segmenter, rgb_topic=topic)
    for before in range(1, 30):
        text = str(dataclasses.replace(report, drops={'!' * before: 1, topic: 1}))
        assert f'{topic} 1' in ' '.join(text.split())


@pytest.mark.parametrize('order', ['before', 'last'])
def test_the_page_shows_the_scores_and_the_worst_labelled_frame(tmp_path, segmenter, order):
    messages = [message for i in range(6) for message in (
        ('/ground_truth/mask', label_message(i)), ('/rgb/image', rgb_message(i)),
        ('/x/image', x_message(i)))]
    if order == 'last':
        messages.sort(key=lambda message: message[0] == '/ground_truth/mask')
    page = tmp_path / 'report.html'
    report = replay(write_bag(tmp_path / 'bag', messages), segmenter, page=page)
    text = page.read_text(encoding='utf-8')
    matrix = matrix_of(range(6), segmenter)
    assert report.scores['mean_iou'] == matrix.mean_iou()
    assert f'<b>{100 * matrix.mean_iou():.1f}</b>mean IoU, %' in text
    assert f'<td>{100 * matrix.f1()[2]:.1f}</td>' in text
    worst = min(range(6), key=lambda i: matrix_of([i], segmenter).mean_iou())
    names = re.findall(r'<figcaption><b>([^<]*)</b>', text)
    time_ns = START_NS + worst * PERIOD_NS
    assert names[0] == f'{time_ns // 10 ** 9}.{time_ns % 10 ** 9:09d}'
    assert len(names) == 6 and text.count('<img ') == 6 * 5
    assert 'Share of right pixels over confidence' in text
    assert 'Histogram of the time of 6 frames' in text


def test_the_page_tells_how_far_the_confidence_is_right(tmp_path, segmenter, monkeypatch):
    told = []
    monkeypatch.setattr('rgbx_seg_ros.replay.report.write_report',
                        lambda path, title, facts, *_: told.append(facts))
    messages = [message for i in range(6) for message in (
        ('/ground_truth/mask', label_message(i)), ('/rgb/image', rgb_message(i)),
        ('/x/image', x_message(i)))]
    replay(write_bag(tmp_path / 'bag', messages), segmenter, page=tmp_path / 'page.html')
    tally = Tally(3)
    for i in range(6):
        rgb, x, label = frame(i)
        result = segmenter(rgb, x)
        tally.update(label, result.mask, result.confidence)
    assert told[0]['calibration_error'] == tally.calibration.error() > 0
    assert told[0]['mean']['boundary'] == pytest.approx(mean(tally.boundary.scores()))


def test_the_page_of_a_bag_without_labels_shows_the_least_and_the_most_sure(
        tmp_path, segmenter):
    page = tmp_path / 'report.html'
    replay(write_pairs(tmp_path / 'bag', 10), segmenter, page=page)
    text = page.read_text(encoding='utf-8')
    sure = sorted(range(10), key=lambda i: frame(i)[0][..., 0].mean())
    times = [START_NS + i * PERIOD_NS for i in (*sure[:4], *sure[:-5:-1])]
    assert re.findall(r'<figcaption><b>([^<]*)</b>', text) == [
        f'{time_ns // 10 ** 9}.{time_ns % 10 ** 9:09d}' for time_ns in times]
    assert 'mean IoU' not in text and text.count('<img ') == 8 * 3


def test_the_page_tells_of_drops_and_of_the_bag_and_names_are_no_markup(tmp_path, segmenter):
    bad = rgb_message(0)
    bad.encoding = '<b>yuv'
    messages = [('/rgb/image', bad), *(message for i in (1, 2) for message in (
        ('/rgb/image', rgb_message(i)), ('/x/image', x_message(i))))]
    page = tmp_path / 'report.html'
    replay(write_bag(tmp_path / 'bag', messages), segmenter, page=page)
    text = page.read_text(encoding='utf-8')
    assert '<h1>tiny on bag</h1>' in text and '3 in /rgb/image' in text
    assert 'rgb_malformed 1' in text and '&lt;b&gt;yuv' in text and '<b>yuv' not in text
    listing = '\n'.join(f'{path.name} {path.stat().st_size}'
                        for path in sorted((tmp_path / 'bag').iterdir()))
    assert hashlib.sha256(listing.encode()).hexdigest() in text


def test_the_command_sees_before_the_work_that_it_cannot_write(tmp_path, tiny_card, command):
    bag = write_pairs(tmp_path / 'bag', 2)
    for option in ('--json', '--report'):
        for path, said in ((tmp_path / 'nowhere' / 'file', 'its folder does not exist'),
                           (tmp_path, 'it is a folder'), (bag / 'bag.mcap', 'is what is read')):
            for source in (bag, bag / 'bag.mcap', bag / 'metadata.yaml'):
                code, _, err = command('replay', source, '--model', tiny_card, option, path)
                assert code == 2 and said in err
    assert [path.name for path in tmp_path.iterdir()] == ['bag']


def test_the_command_writes_the_page(tmp_path, tiny_card, command):
    bag, page = write_pairs(tmp_path / 'bag', 2), tmp_path / 'page.html'
    assert command('replay', bag, '--model', tiny_card, '--device', 'cpu', '--report',
                   page)[0] == 0
    assert f'rgbx-seg replay {bag} --model {tiny_card}' in page.read_text(encoding='utf-8')


def test_a_bag_whose_name_is_no_utf_8_is_shown_escaped(tmp_path, tiny_card, command):
    bag = write_pairs(tmp_path / 'bag', 2).rename(tmp_path / os.fsdecode(b'Stra\xdfe'))
    page, facts = tmp_path / 'page.html', tmp_path / 'facts.json'
    code, out, _ = command('replay', bag, '--model', tiny_card, '--device', 'cpu', '--report',
                           page, '--json', facts)
    assert code == 0 and out.endswith('/Stra\\udcdfe_masks\n')
    assert '<h1>tiny on Stra\\udcdfe</h1>' in page.read_text(encoding='utf-8')
    assert json.loads(facts.read_text())['bag'] == str(bag)
    assert len(read(f'{bag}_masks', '/segmentation/mask')) == 2


# A gate


def test_a_replay_is_held_by_its_pairs_its_drops_and_an_older_one(tmp_path, tiny_card, command):
    """Half of the frames of X are lost, and with them half of the pairs."""
    whole = write_pairs(tmp_path / 'whole', 6)
    half = write_bag(tmp_path / 'half', [message for i in range(6) for message in (
        ('/rgb/image', rgb_message(i)), *([('/x/image', x_message(i))] * (i % 2)))])
    run = ['--model', tiny_card, '--device', 'cpu']
    old = tmp_path / 'old.json'
    code, out, _ = command('replay', whole, *run, '--json', old, '--require', 'pair_rate>=1',
                           '--require', 'drops<=0', '--require', 'unlabeled_share<=0')
    assert code == 0 and out.endswith('all of 3 requirements are met\n')
    facts = json.loads(old.read_text())
    assert len(facts['frames']) == 6 and facts['frames'][0]['pixels'] == {}
    assert facts['frames'][1]['name'] == '1700000000.223456789'
    assert facts['made_by']['model'] == 'tiny' and facts['unlabeled_share'] == 0
    code, _, err = command('replay', half, *run, '--require', 'pair_rate>=0.6', '--require',
                           'drops.rgb_no_partner<=2', '--require', 'miou>=0')
    assert code == 3
    assert err.splitlines()[-3:] == [
        'rgbx-seg: failed: pair_rate is 0.5, required is >=0.6',
        'rgbx-seg: failed: drops.rgb_no_partner is 3, required is <=2',
        'rgbx-seg: failed: miou has no value, required is >=0']
    code, _, err = command('replay', half, '-o', tmp_path / 'out', *run, '--baseline', old)
    assert code == 2 and "has the messages {'rgb': 6, 'x': 6}" in err
    code, out, _ = command('replay', whole, '-o', tmp_path / 'again', *run, '--baseline', old)
    assert code == 0 and 'all of 2 requirements are met' in out


def test_a_bag_that_cannot_be_replayed_has_failed(tmp_path, tiny_card, command):
    lonely = write_bag(tmp_path / 'bag', [('/rgb/image', rgb_message(0)),
                                          ('/x/image', x_message(99))])
    junit = tmp_path / 'gate.xml'
    run = ['replay', lonely, '--model', tiny_card, '--device', 'cpu']
    assert command(*run)[0] == 2
    code, _, err = command(*run, '--require', 'pairs>=1', '--junit', junit)
    assert code == 3
    first, second = err.splitlines()
    assert first.startswith('rgbx-seg: failed: ') and 'holds no pair' in first
    assert second == 'rgbx-seg: failed: pairs has no value, required is >=1'
    [case] = ElementTree.parse(junit).getroot().find('testsuite')
    assert 'holds no pair' in case.find('error').get('message')
    (tmp_path / 'bag_masks').mkdir()
    code, _, err = command(*run, '--require', 'pairs>=1')  # no fault of the bag
    assert code == 2 and 'exists already' in err


@pytest.mark.parametrize('order', ['before', 'last'])
def test_what_is_told_of_each_frame_adds_up_whenever_the_label_comes(tmp_path, segmenter, order):
    messages = [message for i in range(4) for message in (
        ('/ground_truth/mask', label_message(i)), ('/rgb/image', rgb_message(i)),
        ('/x/image', x_message(i)))]
    if order == 'last':
        messages.sort(key=lambda message: message[0] == '/ground_truth/mask')
    facts = replay(write_bag(tmp_path / 'bag', messages), segmenter).facts()
    matrix = matrix_of(range(4), segmenter)
    frames = facts['frames']
    assert [frame['index'] for frame in frames] == [0, 1, 2, 3]
    assert [frame['mean_iou'] for frame in frames] == [
        matrix_of([i], segmenter).mean_iou() for i in range(4)]
    assert [sum(frame['pixels']['car'][name] for frame in frames)
            for name in ('hits', 'labelled', 'predicted')] == [
        matrix.counts[1, 1], matrix.labelled[1], matrix.predicted[1]]
    assert facts['mean_confidence'] == pytest.approx(
        sum(frame_of[..., 0].mean() for frame_of, *_ in map(frame, range(4))) / 4 / 255)
    assert facts['scores']['mean']['f1'] == pytest.approx(mean(matrix.f1()))
