# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The golden frame: every engine must make the mask that the model makes."""

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import list_cards, load_card
from rgbx_seg_ros.errors import CardError, DataError, EngineError
from rgbx_seg_ros.frames.golden import Golden, load_golden, save_golden
from rgbx_seg_ros.inference.golden import freeze
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import MIN_IOU, self_test
from rgbx_seg_ros.sensors import Sensors
from support.stand_ins import engine_of, StandIn
import yaml

SHIPPED = [name for name in list_cards() if load_card(name).golden]


def test_every_model_that_ships_has_a_golden_frame():
    complete = [name for name in list_cards()
                if (path := load_card(name).weights_path) and path.is_file()]
    assert complete and set(complete) == set(SHIPPED)


@pytest.mark.parametrize('name', SHIPPED)
def test_a_shipped_model_passes(name):
    assert self_test(Segmenter.from_card(name, device='cpu')) > 0.99


RIGS = {
    'fixed': {'normalization': 'fixed', 'range': (28_000.0, 31_000.0)},
    'celsius': {'normalization': 'celsius', 'range': (0.0, 50.0)},
    'minmax': {'normalization': 'minmax'}, 'percentile': {'normalization': 'percentile'}}
"""How the cameras of a rig may want X to be scaled, and the golden frame does not."""


@pytest.mark.parametrize(('name', 'scaling'), [
    (name, scaling) for name in SHIPPED for scaling in RIGS
    if scaling != 'celsius' or load_card(name).x.kind == 'thermal'])
def test_a_shipped_model_passes_however_the_rig_scales_x(name, scaling):
    segmenter = Segmenter.from_card(name, device='cpu', **RIGS[scaling])
    assert self_test(segmenter) > 0.99
    golden = load_golden(segmenter.card.folder / segmenter.card.golden)
    again = freeze(segmenter, golden.rgb, golden.x)
    assert (again.mask == golden.mask).mean() > 0.99


@pytest.mark.parametrize(('name', 'fault'), [
    (name, fault) for name in SHIPPED
    for fault in ('colours swapped', 'X inverted', 'X missing', 'shifted')
    # The colour of a road is no matter to that model.
    if (name, fault) != ('potholes', 'colours swapped')])
def test_an_engine_that_errs_fails(name, fault):
    segmenter = Segmenter.from_card(name, device='cpu')
    engine = segmenter.engine

    class Wrong(StandIn):
        device = 'wrong'

        def __call__(self, rgb, x, limits, sensors):
            if fault == 'colours swapped':
                rgb = 255 - rgb[..., ::-1].copy()
            elif fault == 'X inverted':
                limits = limits[::-1]
            elif fault == 'X missing':
                sensors = Sensors.RGB
            mask, *rest = engine(rgb, x, limits, sensors)
            return (np.roll(mask, 8, axis=1) if fault == 'shifted' else mask), *rest

    with pytest.raises(EngineError, match=f'the self-test failed: on wrong the model {name!r}'):
        self_test(Segmenter(segmenter.card, Wrong()))


def test_a_model_without_a_golden_frame_is_not_tested(tiny_card):
    assert self_test(Segmenter.from_card(tiny_card, device='cpu')) is None


@pytest.fixture
def golden_card(tiny_card, tmp_path):
    """Return a function that writes a card with that golden file."""
    def write(content):
        card = yaml.safe_load(tiny_card.read_text())
        path = tmp_path / 'tiny.yaml'
        path.write_text(yaml.safe_dump({**card, 'golden': 'g.npz'}))
        (tmp_path / 'tiny.safetensors').write_bytes(
            (tiny_card.parent / 'tiny.safetensors').read_bytes())
        if content is not None:
            (tmp_path / 'g.npz').write_bytes(content)
        return path
    return write


@pytest.mark.parametrize('content', [None, b'', b'nonsense', b'PK\x03\x04nonsense'])
def test_a_file_that_is_no_golden_frame_is_named(golden_card, content):
    with pytest.raises(CardError, match=r'g\.npz.* is not a golden frame'):
        self_test(Segmenter.from_card(golden_card(content), device='cpu'))


def test_a_golden_frame_holds_no_code(tmp_path):
    np.savez(tmp_path / 'g.npz', rgb=np.array([print], object), x=[0], mask=[0])
    with pytest.raises(CardError, match='is not a golden frame'):
        load_golden(tmp_path / 'g.npz')


def test_an_array_alone_is_no_golden_frame(tmp_path):
    np.save(tmp_path / 'g.npy', np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(CardError, match=r'g\.npy.* is not a golden frame'):
        load_golden(tmp_path / 'g.npy')


def test_a_damaged_golden_frame_is_named(tmp_path):
    """Wherever the damage is: in the archive's own structure, or in what is compressed."""
    path, rng = tmp_path / 'g.npz', np.random.default_rng(0)
    save_golden(path, Golden(*(rng.integers(0, 9, shape, np.uint8)
                               for shape in ((20, 30, 3), (20, 30), (20, 30)))))
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load_golden(path)
        except CardError as error:
            refused += str(error).startswith(f'{str(path)!r} is not a golden frame: ')
    assert refused > 200  # the others are dates and the like


@pytest.mark.parametrize(('change', 'reason'), [
    ({'rgb': np.zeros((4, 6, 3), np.float32)}, r'rgb is an array \(4, 6, 3\) of float32'),
    ({'rgb': np.zeros((4, 6), np.uint8)}, r'rgb is an array \(4, 6\)'),
    ({'x': np.zeros(6, np.uint8)}, r'x is an array \(6,\)'),
    ({'x': np.zeros((4, 6), np.int64)}, 'x is an array .* of int64'),
])
def test_the_frames_of_a_golden_frame_must_be_frames(tmp_path, change, reason):
    content = {'rgb': np.zeros((4, 6, 3), np.uint8), 'x': np.zeros((4, 6), np.uint8),
               'mask': np.zeros((4, 6), np.uint8)}
    save_golden(tmp_path / 'g.npz', Golden(**content | change))
    with pytest.raises(CardError, match=f'is not a golden frame: {reason}'):
        load_golden(tmp_path / 'g.npz')


@pytest.mark.parametrize('pixels', [0, 99, 100])
def test_a_golden_mask_without_a_class_of_some_size_proves_nothing(golden_card, tmp_path, pixels):
    mask = np.full((64, 96), 255, np.uint8)
    mask.flat[:pixels] = 1
    path = tmp_path / 'frozen.npz'
    save_golden(path, Golden(np.zeros((64, 96, 3), np.uint8), mask, mask))
    segmenter = Segmenter(load_card(golden_card(path.read_bytes())), engine_of(
        lambda rgb, x, *_: (x, x)))
    if pixels == 100:
        assert self_test(segmenter) == 1.0
        return
    with pytest.raises(CardError, match='no class of 100 pixels.*freeze another pair'):
        self_test(segmenter)


def test_mask_and_frame_must_be_of_one_size(tmp_path):
    save_golden(tmp_path / 'g.npz', Golden(
        np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8), np.zeros((4, 5), np.uint8)))
    with pytest.raises(CardError, match=r'its mask is \(4, 5\) uint8'):
        load_golden(tmp_path / 'g.npz')


def test_the_command_freezes_what_the_model_makes_now(golden_card, tmp_path, command):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / 'rgb.png'), rng.integers(0, 255, (480, 640, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'x.png'), rng.integers(0, 65535, (480, 640), np.uint16))
    card = golden_card(None)
    code, out, _ = command('golden', card, tmp_path / 'rgb.png', tmp_path / 'x.png',
                           '-o', tmp_path / 'g.npz')
    assert code == 0 and 'golden: g.npz' in out
    golden = load_golden(tmp_path / 'g.npz')
    assert golden.mask.shape == (240, 320) and golden.x.dtype == np.uint16
    assert self_test(Segmenter.from_card(card, device='cpu')) >= MIN_IOU


@pytest.mark.parametrize('pixels', [0, 99])
def test_a_pair_that_shows_one_class_alone_proves_nothing(tiny_card, pixels):
    class Engine(StandIn):

        def __call__(self, rgb, *_):
            mask = np.zeros(rgb.shape[:2], np.uint8)
            mask.flat[:pixels] = 1
            return mask, mask

    rgb = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(DataError, match="'tiny' sees one class alone"):
        freeze(Segmenter(load_card(tiny_card), Engine()), rgb, rgb[..., 0])


def test_a_golden_mask_of_specks_is_told(golden_card, tmp_path):
    card = golden_card(b'')
    rgb = np.zeros((64, 96, 3), np.uint8)
    mask = np.full((64, 96), 7, np.uint8)  # a class that the card does not have
    mask[:3, :3] = 1
    save_golden(tmp_path / 'g.npz', Golden(rgb, rgb[..., 0], mask))
    with pytest.raises(CardError, match=r'no class of 100 pixels, ids in it are \[1, 7\]: freeze'):
        self_test(Segmenter.from_card(card, device='cpu'))
