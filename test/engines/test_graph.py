# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""From raw frames to mask and confidence, with networks whose answer is known."""

import math
import warnings

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines.graph import Normalize, SegmentationGraph, to_batch
from rgbx_seg_ros.errors import CardError
from rgbx_seg_ros.fields import from_mapping
from rgbx_seg_ros.frames.raw import find_x_limits, X_TYPES
from rgbx_seg_ros.networks import Network
import torch

INPUT = (64, 96)
COLORS = np.array([[20, 20, 20], [230, 30, 30], [30, 30, 230]], np.uint8)
# As large as the input, smaller, larger, another aspect ratio either way, odd, extreme.
SIZES = [(64, 96), (32, 48), (128, 192), (480, 720), (480, 640), (96, 64), (40, 200), (61, 93),
         (33, 500), (20, 30)]


@pytest.fixture
def make_card(card_content):
    """Return a function that makes a card with plain inputs: mean 0, std 1."""
    plain = {'mean': [0, 0, 0], 'std': [1, 1, 1]}

    def make(**x):
        content = {**card_content, 'rgb': plain, 'x': {'kind': 'thermal', **plain, **x}}
        return from_mapping(Card, content, 'card', CardError)
    return make


class NearestColor(Network):
    """Logits fall with the distance of RGB, or of X, to the three colours; padding is class 3."""

    def __init__(self, source):
        super().__init__()
        self.source = source

    def forward(self, rgb, x):
        assert rgb.shape == x.shape == (len(rgb), 3, *INPUT)
        image = (rgb, x)[self.source]
        colors = COLORS / 255.0 if not self.source else np.repeat([[0.0], [0.5], [1.0]], 3, 1)
        colors = torch.from_numpy(colors).float()
        distance = (image[:, None] - colors[None, :, :, None, None]).square().sum(2)
        padded = (rgb == 0).all(1, keepdim=True)
        return torch.cat([-50 * distance, torch.where(padded, 1e4, -1e4)], 1)


def pattern(size):
    """Return class ids (H, W): 1 at the left, 2 at the top right, 0 below."""
    ids = np.zeros(size, np.uint8)
    ids[:size[0] // 2] = 2
    ids[:, :size[1] // 3] = 1
    return ids


def is_edge(ids, width):
    """Tell which pixels are closer than `width` to one of another class."""
    edge = np.zeros(ids.shape, bool)
    for axis in (0, 1):
        for shift in range(1, width + 1):
            for part in (np.roll(ids, shift, axis), np.roll(ids, -shift, axis)):
                edge |= part != ids
    return edge


def run(graph, rgb, x, limits, present=(1.0, 1.0)):
    with torch.inference_mode():
        outputs = graph(to_batch(rgb), to_batch(x), torch.tensor([limits], dtype=torch.float32),
                        torch.tensor([present]))
    return [output[0].numpy() for output in outputs]


@pytest.mark.parametrize('source', [0, 1], ids=['rgb', 'x'])
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_what_is_seen_is_found_at_its_place_in_the_frame(make_card, size, source):
    ids = pattern(size)
    rgb = COLORS[ids]
    # X shows the same field of view with other pixels.
    x = np.array([0, 128, 255], np.uint8)[pattern((90, 120))]
    graph = SegmentationGraph(NearestColor(source), make_card())
    mask, confidence = run(graph, rgb, x, (0.0, 255.0))
    assert mask.shape == confidence.shape == size
    assert mask.dtype == confidence.dtype == np.uint8
    assert 3 not in mask, 'the padding shows'
    # One pixel of the network or of X on either side of an edge is blurred.
    pixel = max(size[0] / INPUT[0], size[1] / INPUT[1], *(
        (size[0] / 90, size[1] / 120) if source else ()), 1)
    inner = ~is_edge(ids, math.ceil(2 * pixel))
    assert inner.mean() > 0.4 or min(size) < 34
    np.testing.assert_array_equal(mask[inner], ids[inner])


class Recorder(Network):
    """Keeps its inputs; its logits are constants."""

    def forward(self, rgb, x):
        self.rgb, self.x = rgb, x
        return torch.zeros(len(rgb), 3, *rgb.shape[2:])


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_the_frame_fills_the_input_as_far_as_its_aspect_ratio_lets_it(make_card, size):
    network = Recorder()
    graph = SegmentationGraph(network, make_card())
    run(graph, np.full((*size, 3), 200, np.uint8), np.full((30, 40), 200, np.uint8), (0.0, 255.0))
    scale = min(INPUT[0] / size[0], INPUT[1] / size[1])
    height, width = (round(side * scale) for side in size)
    assert height == INPUT[0] or width == INPUT[1]
    for image in (network.rgb, network.x):
        assert image.shape == (1, 3, *INPUT)
        torch.testing.assert_close(image[..., :height, :width],
                                   torch.full((1, 3, height, width), 200 / 255))
        assert not image[..., height:, :].any() and not image[..., width:].any()


@pytest.mark.parametrize('lost', [0, 1], ids=['rgb', 'x'])
def test_the_mean_takes_the_place_of_a_lost_modality(make_card, lost):
    network = Recorder()
    graph = SegmentationGraph(network, make_card(mean=[0.25] * 3))
    rgb, x = np.full((*INPUT, 3), 200, np.uint8), np.full((30, 40), np.nan, np.float32)
    run(graph, rgb, x, (0.0, 1.0), present=(float(lost != 0), float(lost != 1)))
    seen = (network.rgb, network.x)
    assert not seen[lost].any()
    assert seen[1 - lost].all()


def test_shrinking_averages_instead_of_skipping_pixels(make_card):
    """Also where only one side of X shrinks: stripes one pixel wide become their mean."""
    network = Recorder()
    graph = SegmentationGraph(network, make_card())
    stripes = np.zeros((32, 960), np.uint8)
    stripes[:, ::3] = 255
    run(graph, np.zeros((*INPUT, 3), np.uint8), stripes, (0.0, 255.0))
    assert (network.x[..., 2:-2] - 1 / 3).abs().max() < 0.05


class Constant(Network):
    """Answers with given logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, rgb, x):
        return self.logits


def resize_matrix(source, target):
    """Return (target, source) weights of linear interpolation between pixel centres."""
    matrix = np.zeros((target, source))
    for i in range(target):
        position = min(max((i + 0.5) * source / target - 0.5, 0), source - 1)
        low = int(position)
        matrix[i, low] += 1 - (position - low)
        matrix[i, min(low + 1, source - 1)] += position - low
    return matrix


@pytest.mark.parametrize('factor', [1, 2, 5])
def test_mask_and_confidence_are_those_of_a_softmax_of_the_resized_logits(make_card, factor):
    logits = 2 * torch.randn(1, 3, *INPUT, generator=torch.Generator().manual_seed(0))
    size = (INPUT[0] * factor, INPUT[1] * factor)
    graph = SegmentationGraph(Constant(logits), make_card())
    mask, confidence = run(graph, np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8),
                           (0.0, 255.0))
    rows, columns = (resize_matrix(INPUT[i], size[i]) for i in (0, 1))
    exact = rows @ logits[0].double().numpy() @ columns.T
    chance = np.exp(exact) / np.exp(exact).sum(0)
    np.testing.assert_allclose(confidence, 255 * chance.max(0), rtol=0, atol=0.51)
    ordered = np.sort(exact, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(mask[clear], exact.argmax(0)[clear])


def test_huge_logits_give_full_confidence_and_equal_ones_the_lowest(make_card):
    for logits, expected in ((torch.tensor([6e4, -6e4, 0.0]), 255), (torch.zeros(3), 85)):
        graph = SegmentationGraph(Constant(logits.view(1, 3, 1, 1).expand(1, 3, *INPUT)),
                                  make_card())
        _, confidence = run(graph, np.zeros((*INPUT, 3), np.uint8), np.zeros(INPUT, np.uint8),
                            (0.0, 1.0))
        assert (confidence == expected).all()


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_colours_reach_the_network_in_its_order_with_its_mean_and_std(card_content, order):
    mean, std = (0.5, 0.25, 0.125), (0.5, 2.0, 4.0)
    card = from_mapping(Card, {**card_content, 'rgb': {
        'mean': list(mean), 'std': list(std), 'channel_order': order}}, 'card', CardError)
    frame = torch.tensor([[[[10, 100, 200]]]], dtype=torch.uint8)
    rgb, _ = Normalize(card)(frame, frame[..., :1], torch.tensor([[0.0, 255.0]]))
    values = (10, 100, 200) if order == 'rgb' else (200, 100, 10)
    expected = [(v / 255 - m) / s for v, m, s in zip(values, mean, std, strict=True)]
    assert rgb.flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('normalization', ['fixed', 'minmax', 'percentile', 'auto'])
@pytest.mark.parametrize('x_type', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [None, 1, 3])
@pytest.mark.parametrize('invalid', [None, 40.0])
def test_x_becomes_0_to_1_within_its_range(make_card, normalization, x_type, channels, invalid):
    limits = {'range': [50, 150]} if normalization == 'fixed' else {}
    card = make_card(normalization=normalization, invalid=invalid, **limits)
    shape = (5, 8) if channels is None else (5, 8, channels)
    x = np.random.default_rng(0).integers(0, 256, shape).astype(x_type)
    x[0, :3] = 40
    if x_type == np.float32:
        x[1, :3] = np.array([np.nan, np.inf, -np.inf]).reshape(3, *[1] * (x.ndim - 2))
    low, high = find_x_limits(x, card.x)
    _, found = Normalize(card)(torch.zeros(1, 5, 8, 3, dtype=torch.uint8), to_batch(x),
                               torch.tensor([[low, high]]))
    with np.errstate(invalid='ignore'):
        exact = np.clip((x.astype(float) - low) / (high - low), 0, 1)
    exact[~np.isfinite(x.astype(float)) | (x == invalid)] = 0
    exact = np.broadcast_to(exact.reshape(5, 8, -1), (5, 8, 3))
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy(), exact, atol=1e-6)


@pytest.mark.parametrize('channels', [1, 3])
def test_a_network_with_one_channel_of_x_gets_the_grey_value(make_card, channels):
    card = make_card(mean=[0.25], std=[0.5])
    x = np.random.default_rng(0).integers(0, 256, (5, 8, channels), np.uint8)
    _, found = Normalize(card)(torch.zeros(1, 5, 8, 3, dtype=torch.uint8), to_batch(x),
                               torch.tensor([[0.0, 255.0]]))
    grey = x[..., 0] if channels == 1 else x @ np.array([0.299, 0.587, 0.114])
    assert found.shape == (1, 1, 5, 8)
    np.testing.assert_allclose(found[0, 0].numpy(), (grey / 255 - 0.25) / 0.5, atol=1e-5)


class Mixer(Recorder):
    """Fuses by giving RGB back as BGR."""

    FUSES = True

    def forward_with_fusion(self, rgb, x):
        return self(rgb, x), rgb.flip(1)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_a_fused_image_comes_out_in_rgb_at_the_size_of_the_frame(make_card, size):
    graph = SegmentationGraph(Mixer(), make_card())
    rgb = COLORS[pattern(size)]
    fused = run(graph, rgb, np.zeros((30, 40), np.uint8), (0.0, 255.0))[2]
    assert (fused.shape, fused.dtype) == (rgb.shape, np.uint8)
    pixel = max(size[0] / INPUT[0], size[1] / INPUT[1], 1)
    inner = ~is_edge(pattern(size), math.ceil(2 * pixel))
    assert np.abs(fused[inner].astype(int) - rgb[inner]).max() <= 1


@pytest.mark.parametrize('value', [0, 7.5, 3e8, -3e8, 3.4e38, math.nan, math.inf])
@pytest.mark.parametrize('normalization', ['minmax', 'auto'])
def test_a_constant_frame_is_zero_and_never_nan(make_card, normalization, value):
    card = make_card(normalization=normalization)
    x = np.full((5, 8), value, np.float32)
    _, found = Normalize(card)(torch.zeros(1, 5, 8, 3, dtype=torch.uint8), to_batch(x),
                               torch.tensor([find_x_limits(x, card.x)]))
    assert (found == 0).all()


def views(frame):
    """Return the same pixels in other memory: read-only, padded rows, mirrored, transposed."""
    read_only = frame.copy()
    read_only.flags.writeable = False
    padded = np.zeros((frame.shape[0], frame.shape[1] + 5, *frame.shape[2:]), frame.dtype)
    padded[:, :frame.shape[1]] = frame
    rows = [row.tobytes() + b'x' for row in frame]  # rows that end within a 16-bit value
    odd = np.ndarray(frame.shape, frame.dtype, bytearray(b''.join(rows)),
                     strides=(len(rows[0]), *frame.strides[1:]))
    turned = np.ascontiguousarray(frame.swapaxes(0, 1)).swapaxes(0, 1)
    return [read_only, padded[:, :frame.shape[1]], odd, frame[::-1].copy()[::-1],
            frame[:, ::-1].copy()[:, ::-1], turned, np.frombuffer(
                frame.tobytes(), frame.dtype).reshape(frame.shape)]


@pytest.mark.parametrize('x_type', X_TYPES)
@pytest.mark.parametrize('shape', [(4, 6), (4, 6, 1), (4, 6, 3)])
def test_the_memory_of_a_frame_does_not_matter_and_gives_no_warning(x_type, shape):
    frame = np.arange(np.prod(shape)).reshape(shape).astype(x_type)
    for view in views(frame):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            batch = to_batch(view)
        assert tuple(batch.shape) == (1, 4, 6, *(shape[2:] or (1,)))
        assert np.array_equal(batch.numpy().reshape(shape), frame)


def test_a_frame_that_torch_can_use_is_not_copied():
    frame = np.zeros((4, 6, 3), np.uint8)
    to_batch(frame)[0, 1, 2, 0] = 7
    assert frame[1, 2, 0] == 7
