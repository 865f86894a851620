# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the files that engines run have in common: kinds of frames, origin, comparison with PyTorch.

A file holds the whole way of a frame, `SegmentationGraph`, for one kind of frames: their sizes are
fixed, so that whatever runs it can plan all of its memory.
"""

import contextlib
import dataclasses
import json
import logging
import re
import threading
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.errors import EngineError
from rgbx_seg_ros.fields import unknown_name
from rgbx_seg_ros.frames.raw import X_TYPES
from rgbx_seg_ros.weights.checkpoint import sha256
import torch
from torch import nn
import yaml

BOUNDS = {'float32': (0.001, 2), 'float16': (0.02, 13), 'bfloat16': (0.02, 13), 'int8': (0.05, 26)}
"""
By the lower precision of two models: the share of mask pixels, and the steps of confidence at
nearly all pixels, that may differ. Where int8 was measured, a tenth of that share was needed in
the worst frame; what it costs a class is judged at the export, with more frames.
"""
_QUANTILE = 99.0
_TAG = re.compile(r'(\d+)x(\d+)-(\d+)x(\d+)x(\d+)-(\w+)')


class FrameKind(NamedTuple):
    """What all frames have in common that one file can take."""

    rgb_size: tuple[int, int]
    """Height and width of RGB."""
    x_size: tuple[int, int]
    """Height and width of X."""
    x_channels: int = 1
    """1 or 3."""
    x_type: str = 'uint8'
    """uint8, uint16 or float32."""

    @classmethod
    def of(cls, rgb: np.ndarray, x: np.ndarray) -> 'FrameKind':
        """Return the kind of a pair of frames, (H, W, 3) and (h, w) or (h, w, C)."""
        return cls(rgb.shape[:2], x.shape[:2], x.shape[2] if x.ndim == 3 else 1, x.dtype.name)

    @classmethod
    def from_json(cls, text: str) -> 'FrameKind':
        """Return the kind of which `json` made a text; raise EngineError for another one."""
        try:
            (height, width), (x_height, x_width), *rest = json.loads(text)
            kind = cls((height, width), (x_height, x_width), *rest)
            kind.check()
        except (TypeError, ValueError) as error:
            raise EngineError(f'the kind of frames is {text!r}, needed is such as '
                              f'{json.dumps(cls((480, 640), (480, 640)))!r}') from error
        return kind

    @classmethod
    def from_tag(cls, tag: str) -> 'FrameKind | None':
        """Return the kind that has this `tag`, None if there is none."""
        if not (parts := _TAG.fullmatch(tag)):
            return None
        width, height, x_width, x_height, channels = map(int, parts.groups()[:-1])
        return cls((height, width), (x_height, x_width), channels, parts[6])

    @property
    def tag(self) -> str:
        """The kind as part of a file's name, such as 640x480-640x480x1-uint8."""
        (height, width), (x_height, x_width) = self.rgb_size, self.x_size
        return f'{width}x{height}-{x_width}x{x_height}x{self.x_channels}-{self.x_type}'

    def __str__(self):
        (height, width), (x_height, x_width) = self.rgb_size, self.x_size
        channels = f', {self.x_channels} channels' if self.x_channels > 1 else ''
        return f'{width}x{height} RGB with {x_width}x{x_height} X of {self.x_type}{channels}'

    def check(self) -> None:
        """Raise EngineError for what no pair of frames is."""
        types = [kind.__name__ for kind in X_TYPES]
        if self.x_type not in types:
            raise EngineError(f'type of X {unknown_name(self.x_type, types)}')
        if self.x_channels not in (1, 3):
            raise EngineError(f'X has {self.x_channels!r} channels, allowed are 1 and 3')
        if min(*self.rgb_size, *self.x_size) < 1:
            raise EngineError(f'sizes are {self.rgb_size!r} and {self.x_size!r}, needed are '
                              'heights and widths in pixels')

    def empty(self) -> tuple[torch.Tensor, ...]:
        """Return the graph's four inputs, without content."""
        return (torch.zeros(1, *self.rgb_size, 3, dtype=torch.uint8),
                torch.zeros(1, *self.x_size, self.x_channels, dtype=getattr(torch, self.x_type)),
                torch.tensor([[0.0, 1.0]]), torch.ones(1, 2))


class Difference(NamedTuple):
    """How far the masks and confidences of two models are from each other."""

    mask: float
    """Share of the pixels with another class."""
    confidence: int
    """Largest difference of the confidence, in its steps of 1/255."""
    confidence_quantile: float
    """Difference that 99 % of the pixels stay below or reach."""

    @classmethod
    def between(cls, expected, found) -> 'Difference':
        """Compare two tuples that begin with mask and confidence."""
        steps = np.abs(expected[1].astype(int) - found[1])
        return cls(float((expected[0] != found[0]).mean()), int(steps.max()),
                   float(np.percentile(steps, _QUANTILE)))

    @classmethod
    def worst(cls, differences) -> 'Difference':
        """Return the largest of each figure."""
        return cls(*map(max, zip(*differences, strict=True)))

    def is_small(self, precision: str = 'float32') -> bool:
        """Return whether it is no more than rounding explains, for one of the precisions."""
        mask, steps = BOUNDS[precision]
        return self.mask <= mask and self.confidence_quantile <= steps

    def __str__(self):
        return (f'{100 * self.mask:.3g} % of the mask differ, the confidence by up to '
                f'{self.confidence}/255 ({_QUANTILE:g} % of it by up to '
                f'{self.confidence_quantile:g}/255)')


def card_text(card: Card) -> str:
    """
    Return a card as the text of a YAML file, as it is in memory: with what a rig changed.

    Without its section `onnx`: a file does not depend on who names it.
    """
    content = dataclasses.asdict(card)
    del content['folder'], content['ending'], content['onnx']
    return yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False, allow_unicode=True)


def weights_checksum(card: Card) -> str:
    """Return the SHA-256 of a card's weights file, '' for a card without weights."""
    path = card.find_weights()
    return sha256(path) if path else ''


def trace(graph: nn.Module, kind: FrameKind) -> torch.export.ExportedProgram:
    """Return what `graph`, a SegmentationGraph on the CPU, does with frames of a kind."""
    kind.check()
    inputs = kind.empty()
    with torch.no_grad():
        graph(*inputs)  # so that its tables are there, and become constants of the file
        return torch.export.export(graph, inputs, strict=False)


@contextlib.contextmanager
def quiet():
    """Keep the remarks that PyTorch has on itself out of its logs, if they are of this thread."""
    thread = threading.get_ident()

    def counts(record):
        return record.thread != thread or record.levelno >= logging.ERROR
    # Levels of loggers and filters of warnings are those of the process, and other threads have
    # something to say as well.
    names = [name for name in logging.root.manager.loggerDict if name.split('.')[0] == 'torch']
    handlers = [handler for name in names for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(counts)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(counts)


def cannot_export(card: Card, kind: FrameKind, error: Exception) -> EngineError:
    """Return the EngineError that tells what PyTorch's exporter or compiler has stumbled over."""
    reason = ' '.join(str(error).split())[:400]
    return EngineError(f'the network {card.network!r} cannot be exported for {kind} with '
                       f'PyTorch {torch.__version__}: {reason}')


EXPORT_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError)
"""What PyTorch's exporter and compiler raise for what they cannot do."""
