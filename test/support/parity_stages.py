# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where our networks hold what the originals' runs recorded: one line per kind of intermediate."""

from collections.abc import Callable
from typing import NamedTuple

import torch


class Stage(NamedTuple):
    """The place of an intermediate."""

    path: str
    """Name of our module."""
    pick: int | Callable = lambda args, out: out
    """Index into the module's output, or a function of its arguments and its output."""
    call: int = 0
    """Which of the module's calls in a forward pass."""

    def of(self, args, out):
        """Return the intermediate of one call."""
        return self.pick(args, out) if callable(self.pick) else out[self.pick]


def _scales(template, path, *rest):
    """Return the four scales of a network: {i} counts them from 1, {j} from 0."""
    return {template.format(i=j + 1, j=j): Stage(path.format(i=j + 1, j=j), *rest)
            for j in range(4)}


def _sequence_first(args, out):
    """Return tokens (N, L, C) as (L, N, C)."""
    return out.transpose(0, 1)


def _channels_last(args, out):
    """Return a map (N, C, H, W), or the parts of a complex one, as (N, H, W, C[, 2])."""
    if isinstance(out, tuple):
        return torch.stack(out, dim=-1).permute(0, 2, 3, 1, 4)
    return out.permute(0, 2, 3, 1)


def _first_map(args, out):
    """Return tokens (N, L, C) of MDDG's finest map as (N, H, W, C)."""
    return out.unflatten(1, {19200: (120, 160), 5120: (64, 80)}[out.shape[1]])


def _step(k):
    """Return the intermediates of sampling step `k` of DiFusionSeg."""
    layer = 'decode_head.layers.0'
    stages = {
        'mask_t': Stage('transform', lambda args, out: args[1], k + 1),
        'transform': Stage('transform', call=k + 1),
        'log_snr': Stage('time_mlp', lambda args, out: args[0], k),
        'fourier': Stage('time_mlp.0', call=k),
        'time_mlp': Stage('time_mlp', call=k),
        'encoder.layers.0.attentions.0.sampling_offsets': Stage(
            f'{layer}.attention.sampling_offsets', call=k),
        'encoder.layers.0.attentions.0': Stage(f'{layer}.attention', _sequence_first, k),
        'encoder.layers.0.norms.0': Stage(f'{layer}.norm1', _sequence_first, k),
        'encoder.layers.0.ffns.0': Stage(f'{layer}.ffn', _sequence_first, k),
        'encoder.layers.0.norms.1': Stage(f'{layer}.norm2', _sequence_first, k),
        **{f'encoder.layers.{i}': Stage(f'decode_head.layers.{i}', _sequence_first, k)
           for i in range(6)},
        'logits': Stage('decode_head', call=k),
    }
    return {f'step{k}.{name}': stage for name, stage in stages.items()}


_ENCODERS = {
    'enc_rgb.stem': Stage('encoder_rgb.downsample_layers.0'),
    'enc_rgb.s1.block0': Stage('encoder_rgb.stages.0.0'),
    **_scales('enc_rgb.s{i}', 'encoder_rgb.stages.{j}'),
    **_scales('enc_x.s{i}', 'encoder_x.stages.{j}'),
}
STAGES = {
    'ms_irtnet': {
        **_ENCODERS,
        **_scales('gwim.s{i}.rgb', 'gwim.{j}', 0),
        **_scales('gwim.s{i}.x', 'gwim.{j}', 1),
        **_scales('fiim.s{i}.attn1', 'fiim.{j}.cross.cross_attn', 0),
        **_scales('fiim.s{i}.attn2', 'fiim.{j}.cross.cross_attn', 1),
        **_scales('fiim.s{i}.cross', 'fiim.{j}.cross'),
        **_scales('fiim.s{i}', 'fiim.{j}'),
        'decoder.fuse': Stage('decoder.linear_fuse'),
        'decoder.logits4': Stage('decoder.linear_pred'),
    },
    'rxssnet': {
        **_ENCODERS,
        **_scales('rope.s{i}', 'cgpi.{j}.mlla.attn.rope'),
        **_scales('cgpi.s{i}.linattn', 'cgpi.{j}.mlla.attn'),
        **_scales('cgpi.s{i}', 'cgpi.{j}'),
        **_scales('crm.s{i}.rgb', 'crm.{j}', 0),
        **_scales('crm.s{i}.x', 'crm.{j}', 1),
        **_scales('lam.s{i}.embed_rgb', 'lam.{j}.embed_rgb'),
        **_scales('lam.s{i}.embed_x', 'lam.{j}.embed_x'),
        **_scales('lam.s{i}.cross', 'lam.{j}.cross'),
        **_scales('lam.s{i}', 'lam.{j}'),
        'decoder.c43': Stage('decoder.linear_fuse43'),
        'decoder.c32': Stage('decoder.linear_fuse32'),
        'decoder.c21': Stage('decoder.linear_fuse21'),
        'decoder.logits4': Stage('decoder.linear_pred'),
    },
    'mddg': {
        **_scales('rgb.embed{i}', 'encoder_rgb.patch_embed{i}', 0),
        **_scales('x.embed{i}', 'encoder_x.patch_embed{i}', 0),
        **_scales('rgb.block{i}.0', 'encoder_rgb.block{i}.0'),
        **_scales('x.block{i}.0', 'encoder_x.block{i}.0'),
        **_scales('rgb.stage{i}', 'encoder_rgb.norm{i}'),
        **_scales('x.stage{i}', 'encoder_x.norm{i}'),
        **_scales('fuse{i}.divergence', 'fusion.{j}.similarity', lambda args, out: -out),
        **_scales('fuse{i}.mask', 'fusion.{j}.mask'),
        **_scales('fuse{i}.cross.rgb', 'fusion.{j}.cross', 0),
        **_scales('fuse{i}.cross.x', 'fusion.{j}.cross', 1),
        **_scales('fuse{i}.mamba.ssm.rgb', 'fusion.{j}.mamba.scan', 0),
        **_scales('fuse{i}.mamba.ssm.x', 'fusion.{j}.mamba.scan', 1),
        **_scales('fuse{i}.mamba.rgb', 'fusion.{j}.mamba', 0),
        **_scales('fuse{i}.mamba.x', 'fusion.{j}.mamba', 1),
        **_scales('fuse{i}.linear', 'fusion.{j}.linear'),
        **_scales('fuse{i}.mixffn', 'fusion.{j}.mix_ffn'),
        **_scales('fuse{i}.chattn', 'fusion.{j}.channel_attn'),
        **_scales('fuse{i}.out', 'fusion.{j}', 0),
        **_scales('fuse{i}.rgb', 'fusion.{j}', 1),
        **_scales('fuse{i}.x', 'fusion.{j}', 2),
        'head.c4': Stage('decoder.linear_c4.proj'),
        **{f'head.sdd{i}.guide': Stage(f'decoder.sdd{i}.guide') for i in (1, 2, 3)},
        **{f'head.sdd{i}.dynweight': Stage(f'decoder.sdd{i}.expand') for i in (1, 2, 3)},
        **{f'head.sdd{i}.out': Stage(f'decoder.sdd{i}') for i in (1, 2, 3)},
        'head.sdd1.freq.routing': Stage('decoder.sdd1.gate.routing'),
        'head.sdd1.freq.pre': Stage('decoder.sdd1.gate.pwconv1', _first_map),
        'head.sdd1.freq.spectrum': Stage('decoder.sdd1.gate.dft', _channels_last),
        'head.sdd1.freq.weight': Stage('decoder.sdd1.gate.filters', _channels_last),
        'head.sdd1.freq.gate': Stage('decoder.sdd1.gate', _channels_last),
        'head.fuse': Stage('decoder.linear_fuse'),
    },
    'ms2mnet': {
        'dfe': Stage('dfe'),
        **{f'rgb_b{j}': Stage('encoder_rgb', j) for j in range(4)},
        **{f'dsm_b{j}': Stage('encoder_x', j) for j in range(4)},
        **_scales('wase{i}', 'fusion.{j}.wase'),
        **_scales('vfe{i}_norm', 'fusion.{j}.vfe.norm', lambda args, out: out.flatten(2)),
        **_scales('vfe{i}_gate', 'fusion.{j}.vfe.mixer.gate'),
        **_scales('vfe{i}_h', 'fusion.{j}.vfe.mixer.out_proj'),
        **_scales('vfe{i}_mssm', 'fusion.{j}.vfe.mixer'),
        **_scales('vfe{i}', 'fusion.{j}.vfe'),
        **_scales('f{i}', 'fusion.{j}'),
        'dec_Conv1': Stage('decoder.proj4'),
        'dec_Conv2': Stage('decoder.proj3'),
        'dec_Conv3': Stage('decoder.proj1'),
        'dec_b4_pool': Stage('decoder.b4.attn.pool'),
        'dec_b4_attn': Stage('decoder.b4.attn'),
        **{f'dec_{part}': Stage(f'decoder.{part}')
           for part in ('b4', 'p3', 'b3', 'p2', 'b2', 'p1', 'seg_head')},
    },
    'difusionseg': {
        **{f'backbone.downsample_layers.{i}': Stage(f'backbone.downsample_layers.{i}')
           for i in range(4)},
        'backbone.stages.0.0': Stage('backbone.stages.0.0'),
        **{f'backbone.stages.{i}': Stage(f'backbone.stages.{i}') for i in range(4)},
        **{f'backbone.norm{i}': Stage(f'backbone.norms.{i}') for i in range(4)},
        **{f'neck.lateral_convs.{i}': Stage(f'neck.lateral_convs.{i}') for i in range(4)},
        **{f'neck.topdown.{i}': Stage(f'neck.fpn_convs.{i}', lambda args, out: args[0])
           for i in range(4)},
        **{f'neck.fpn_convs.{i}': Stage(f'neck.fpn_convs.{i}') for i in range(4)},
        'neck.merge': Stage('neck.merge'),
        **{f'fusion.{part}': Stage(f'fusion.{part}') for part in (
            'low_conv1', 'dilated_conv', 'low_conv2', 'grouped_conv', 'fusion_conv', 'high_conv',
            'cross_fusion', 'output_conv', 'se_block')},
        'fusion': Stage('fusion'),
        'fusion_down': Stage('fusion_down'),
        'transform.condition': Stage('transform'),
        'pos_embed': Stage('decode_head.positions', lambda args, out: (
            out.T.reshape(1, -1, *args[1:]))),
        **_step(0), **_step(1), **_step(2),
    },
}
