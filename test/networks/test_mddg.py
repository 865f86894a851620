# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts of MDDG, where the whole network would not show a fault."""

import re

import pytest
from rgbx_seg_ros.errors import CardError, FrameError
from rgbx_seg_ros.networks import mddg_fusion
from rgbx_seg_ros.networks.mddg import (
    dynamic_linear,
    FrequencyGatedLinear,
    kept_bins,
    MapFusion,
    MDDG,
)
from rgbx_seg_ros.networks.mddg_fusion import (
    ChannelScan,
    DivergenceMask,
    FusionBlock,
    SCAN_HEADS,
    ScanStream,
)
from rgbx_seg_ros.networks.mix_transformer import DropPath, MIT, MixTransformer
from support.parity_cases import keys_of
from support.trials import COMPACT, TRIALS
import torch
from torch.nn import functional as F


@pytest.fixture(scope='module')
def fusion():
    torch.manual_seed(0)
    return FusionBlock(64, 5, 4, 12).eval()


def maps(*shape):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1)).unbind(0)


def meta(**arguments):
    with torch.device('meta'):
        return MDDG(9, **arguments)


def test_b4_has_36_6_million_parameters_more_than_b2():
    b2, b4 = (sum(p.numel() for p in meta(variant=name).parameters()) for name in ('b2', 'b4'))
    assert b2 == 55388359
    assert (b4 - b2) / 1e6 == pytest.approx(36.6, abs=0.06)


@pytest.mark.parametrize('variant', MIT)
def test_x_has_the_smallest_encoder_of_the_widths_of_that_of_rgb(variant):
    net = meta(variant=variant)
    depths, widths = MIT[variant]
    assert len(net.encoder_rgb.block3) == depths[2]
    assert len(net.encoder_x.block3) == 2
    assert net.encoder_x.channels == net.encoder_rgb.channels == widths


@pytest.mark.parametrize(('shape', 'fits'), [
    ((480, 640), True), ((477, 637), True), ((476, 640), False), ((481, 640), False),
    ((480, 636), False), ((480, 641), False), ((608, 800), False)])
def test_a_size_that_does_not_fit_is_told_the_sizes_that_do(shape, fits):
    net = meta(variant='b1')
    rgb = torch.empty(1, 3, *shape, device='meta')
    if fits:
        assert net(rgb, rgb).shape == (1, 9, *shape)
        return
    with pytest.raises(FrameError, match=(
            rf'shape \(1, 3, {shape[0]}, {shape[1]}\).* height of 477 to 480 and a width of 637 '
            r'to 640 only.* freq_size=\(120, 160\) in the network_args')):
        net(rgb, rgb)


def test_freq_size_may_come_from_yaml():
    net = meta(variant='b1', freq_size=[40, 80])
    rgb = torch.empty(1, 3, 160, 320, device='meta')
    assert net(rgb, rgb).shape == (1, 9, 160, 320)


@pytest.mark.parametrize(
    'bad', [(120,), '120x160', [120.0, 160], (120, 164), (32, 160), (True, 160), 120, None])
def test_a_bad_freq_size_is_named(bad):
    with pytest.raises(CardError, match='freq_size is .*, needed are two multiples of 8'):
        meta(freq_size=bad)


@pytest.mark.parametrize(('variant', 'prefix'), [
    ('b2', r'backbone\.(?!extra_mit|fusion_block)'), ('b1', r'backbone\.extra_mit\.0\.')])
def test_the_encoders_have_the_names_of_the_published_backbones(variant, prefix):
    theirs = (entry['key'] for entry in keys_of('mddg'))
    published = {re.sub(prefix, '', key) for key in theirs if re.match(prefix, key)}
    assert 'block1.0.attn.sr.weight' in published
    assert set(MixTransformer(variant).state_dict()) == published


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop, ones = DropPath(0.25), torch.ones(4000, 2, 3)
    out = drop.train()(ones)
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert sorted(set(out.flatten().tolist())) == pytest.approx([0.0, 1 / 0.75])
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(ones), ones)


def test_a_stored_mask_can_take_the_place_of_the_networks_own(fusion):
    rgb, x = maps(1, 64, 9, 11)
    mask = (torch.arange(99).view(1, 1, 9, 11) % 3 == 0).float()
    with torch.no_grad():
        new_rgb, new_x = fusion.mamba(*fusion.cross(rgb, x))
        handle = fusion.mask.register_forward_hook(lambda module, args, out: mask)
        _, out_rgb, out_x = fusion(rgb, x)
        handle.remove()
    torch.testing.assert_close(out_rgb, rgb + mask * new_rgb)
    torch.testing.assert_close(out_x, x + mask * new_x)


def test_only_pixels_where_the_modalities_differ_are_exchanged(fusion):
    rgb, x = maps(1, 64, 8, 8)
    x = torch.where(torch.arange(8) < 4, rgb, x)  # the left half is the same
    with torch.no_grad():
        _, out_rgb, out_x = fusion(rgb, x)
    assert torch.equal(out_rgb[..., :4], rgb[..., :4])
    assert torch.equal(out_x[..., :4], x[..., :4])
    assert (out_rgb != rgb)[..., 4:].any(dim=1).all()
    assert (out_x != x)[..., 4:].any(dim=1).all()


def test_in_training_the_gradient_goes_through_the_mask():
    similarity = torch.randn(2, 1, 4, 5, requires_grad=True)
    mask = DivergenceMask().train()(similarity)
    assert set(mask.detach().flatten().tolist()) == {0.0, 1.0}
    (3.0 * mask).sum().backward()
    assert torch.equal(similarity.grad, torch.full_like(similarity, 3.0))


def test_the_norm_after_the_scan_reads_a_pixel_across_its_heads():
    torch.manual_seed(0)
    stream = ScanStream(64, 4)
    d = 64 * 4 // SCAN_HEADS
    torch.nn.init.normal_(stream.out_norm.weight)
    y = torch.randn(1, SCAN_HEADS, d, 3)
    row = torch.empty(3, SCAN_HEADS * d)
    for pixel in range(3):
        for head in range(SCAN_HEADS):
            for j in range(d):
                row[pixel, j * SCAN_HEADS + head] = y[0, head, j, pixel]
    normed = F.layer_norm(
        row.view(3, SCAN_HEADS, d), (d,), stream.out_norm.weight, stream.out_norm.bias)
    wanted = F.conv2d(
        normed.flatten(1)[:, :, None, None], stream.out_proj.weight, groups=16).view(3, 64)
    torch.testing.assert_close(stream.leave(y)[0].T, wanted)


def test_a_scan_in_pieces_equals_one_of_all_pixels(monkeypatch):
    torch.manual_seed(0)
    scan = ChannelScan(64, 2, 12).eval()
    rgb, x = maps(2, 64, 7, 9)
    with torch.no_grad():
        monkeypatch.setattr(mddg_fusion, 'PIECE', 63)
        whole = scan(rgb, x)
        monkeypatch.setattr(mddg_fusion, 'PIECE', 10)
        pieces = scan(rgb, x)
    for ours, wanted in zip(pieces, whole, strict=True):
        torch.testing.assert_close(ours, wanted)


def test_the_scan_hands_rgb_on_to_x_and_x_back_to_rgb():
    torch.manual_seed(0)
    scan = ChannelScan(64, 2, 12).eval()
    rgb, x = maps(1, 64, 5, 5)
    with torch.no_grad():
        out_rgb, out_x = scan(rgb, x)
        assert (scan(rgb + 1.0, x)[1] != out_x).any()
        assert (scan(rgb, x + 1.0)[0] != out_rgb).any()


def test_a_dynamic_linear_layer_multiplies_each_pixel_by_the_matrix_of_its_cell():
    torch.manual_seed(0)
    n, c, k, p, q, down, across = 2, 3, 5, 2, 3, 4, 2
    weight, x = torch.randn(n, k * c, p, q), torch.randn(n, c, p * down, q * across)
    wanted = torch.zeros(n, k, p * down, q * across)
    for row in range(p * down):
        for column in range(q * across):
            matrix = weight[:, :, row // down, column // across].view(n, k, c)
            wanted[:, :, row, column] = torch.einsum('nkc,nc->nk', matrix, x[:, :, row, column])
    torch.testing.assert_close(dynamic_linear(weight, x), wanted)


def test_fused_maps_equal_a_convolution_of_the_concatenated_ones():
    torch.manual_seed(0)
    fuse = MapFusion(2, 24).eval()
    fine, coarse = torch.randn(2, 24, 8, 12), torch.randn(2, 24, 2, 3)
    resized = F.interpolate(coarse, size=(8, 12), mode='bilinear')
    with torch.no_grad():
        wanted = fuse.bn(fuse.conv(torch.cat((fine, resized), dim=1))).relu()
        torch.testing.assert_close(fuse(fine, coarse), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize('size', [(120, 160), (64, 80), (41, 97)])
def test_the_gate_keeps_the_bins_that_the_original_keeps(size):
    height, width = size
    wanted = torch.tensor([
        [float((ky - (height - 1) // 2) ** 2 + kx ** 2 > 35 ** 2) for kx in range(width // 2 + 1)]
        for ky in range(height)])
    kept = kept_bins(height, width)
    assert torch.equal(kept, wanted)
    assert 0 < kept.sum() < kept.numel()


def test_the_gate_scales_a_dynamic_linear_layer_by_one_more_than_itself():
    torch.manual_seed(0)
    layer = FrequencyGatedLinear(512, 64, 256, 8, (48, 64)).eval()
    coarse, fine = torch.randn(1, 512, 6, 8), torch.randn(1, 64, 48, 64)
    with torch.no_grad():
        guide = layer.guide(coarse)
        gate = layer.gate(guide, fine)
        plain = dynamic_linear(layer.expand(guide), fine)
        assert gate.std(dim=(2, 3)).max() > 1e-3
        torch.testing.assert_close(layer(coarse, fine), plain * (1.0 + gate), rtol=0, atol=1e-4)


@pytest.mark.parametrize('lost', ['rgb', 'x'])
def test_an_image_of_a_lost_sensor_leaves_gradients_of_the_usual_size(lost):
    torch.manual_seed(0)
    net = MDDG(2, **COMPACT['mddg']).train()
    size = TRIALS['mddg'].sizes[0]
    images = {'rgb': torch.randn(1, 3, *size), 'x': torch.randn(1, 3, *size)}

    def gradient(**pair):
        net.zero_grad()
        net(**pair).square().mean().backward()
        return torch.stack([p.grad.norm() for p in net.parameters() if p.grad is not None]).norm()
    usual = gradient(**images)
    assert gradient(**{**images, lost: torch.zeros(1, 3, *size)}) < 10 * usual
