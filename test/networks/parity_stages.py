# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where our networks hold what the originals' runs recorded: one line per kind of intermediate."""

from collections.abc import Callable
from typing import NamedTuple


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
}
