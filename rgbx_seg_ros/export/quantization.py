# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
An exported model in 8 bits, and what that costs.

Convolutions, most of the work of every network here, take uint8 and uint8 weights about 128, a
scale for each of their channels; what lies between them stays in float32. With int8 weights, as
usual, a CPU that has AVX2 or AVX-512 without VNNI adds two products up in 16 bits, which saturate:
four in ten sums were wrong. Unsigned ones are widened first, and come out the same everywhere.
Scales of activations are those of the largest and smallest values that real frames make. On the
shipped models percentiles of these values were no better, and signed activations took longer on a
CPU.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.engines.model_files import Difference
from rgbx_seg_ros.engines.onnx_files import import_onnx, INPUTS, mark_precision
from rgbx_seg_ros.errors import DataError, EngineError
from rgbx_seg_ros.evaluation.metrics import ConfusionMatrix
from rgbx_seg_ros.inference.self_test import MIN_PIXELS

MIN_IOU = 0.8
"""
Least intersection over union of the masks of a class with those of float32, over all frames.

Less strict than a self-test, whose frame shows its classes clearly: a class that the model is not
sure of has blurred borders in float32 as well.
"""
CALIBRATION_FRAMES = 40
_CUT = ('Clip', 'Relu')
"""
What cuts the values of a convolution off. It becomes part of its range, 0 to 6 for ReLU6: with
that of what is cut off as well, GatedLite had some ten levels left, and 7 % of its masks differed.
"""
_LEAST_RANGE = 1e-6
"""Between the lowest and the highest value of what gets a scale: far below any that counts."""


class Cost(NamedTuple):
    """What 8 bits change, on some frames."""

    difference: Difference
    """The largest of each figure in one frame."""
    iou: float
    """Of the class whose masks agree least with those of float32, over all frames."""
    name: str
    """Of that class."""
    scores: tuple[float, float] | None
    """Mean IoU with the labels in float32 and in 8 bits, where the frames have labels."""

    def __str__(self):
        text = (f'{self.difference}; over all frames the class {self.name!r} has the lowest IoU '
                f'with its masks in float32, {100 * self.iou:.1f} %')
        if self.scores:
            text += '; mean IoU with the labels {:.2f} % in float32, {:.2f} % in int8'.format(
                *(100 * score for score in self.scores))
        return text


def quantize(source: Path, target: Path, inputs) -> None:
    """
    Write the float32 model `source` in 8 bits to `target`.

    `inputs` are what its calls will be like, (rgb, x, x_limits) each. Raise EngineError where the
    quantizer fails.
    """
    tools = import_onnx('onnxruntime.quantization')

    class Frames(tools.CalibrationDataReader):

        def __init__(self):
            self._frames = iter(inputs)

        def get_next(self):
            frame = next(self._frames, None)
            if frame is None:
                return None
            rgb, x, limits = frame
            values = (rgb, x if x.ndim == 3 else x[..., None], np.float32(limits),
                      np.float32([1, 1]))
            return {name: value[None] for name, value in zip(INPUTS, values, strict=True)}

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it warns of a step that is no use here
    try:
        tools.quantize_static(
            source, target, Frames(), op_types_to_quantize=['Conv', *_CUT], per_channel=True,
            activation_type=tools.QuantType.QUInt8, weight_type=tools.QuantType.QUInt8,
            # A channel of zeros has no range, and would get another zero point than the others.
            extra_options={'WeightSymmetric': True, 'MinimumRealRange': _LEAST_RANGE})
        mark_precision(target, 'int8')
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        reason = ' '.join(str(error).split())[:400]
        raise EngineError(f'the model cannot be quantized: {reason}') from error
    finally:
        logging.root.setLevel(level)


def cost(before, after, frames, labels) -> Cost:
    """
    Compare two models, as engines are called, on `frames`: (inputs, label or None) each.

    `labels` are the classes. Raise EngineError where a class is lost: where its masks agree less
    than `MIN_IOU`; DataError where the frames show too little of any class.
    """
    agreed, scores = ConfusionMatrix(len(labels)), [ConfusionMatrix(len(labels)) for _ in '12']
    differences = []
    for inputs, label in frames:
        masks = before(*inputs), after(*inputs)
        differences.append(Difference.between(*masks))
        agreed.update(masks[0][0], masks[1][0])
        for score, (mask, *_) in zip(scores, masks, strict=True):
            if label is not None:
                score.update(label, mask)
    counted = [(iou, one.name) for iou, one, pixels in zip(
        agreed.iou(), labels, agreed.labelled, strict=True) if pixels >= MIN_PIXELS]
    if not counted:
        raise DataError(
            f'no class fills {MIN_PIXELS} pixels in the masks of {len(differences)} pairs, which '
            'is too little to judge int8 by: give more or larger ones with --data')
    iou, name = min(counted)
    has_labels = scores[0].counts.any()
    found = Cost(Difference.worst(differences), float(iou), name,
                 tuple(score.mean_iou() for score in scores) if has_labels else None)
    if iou < MIN_IOU:
        raise EngineError(
            f'int8 costs too much: {found}, needed are {100 * MIN_IOU:g} %; calibrate on more '
            'frames, like those of the vehicle, with --data, or leave out --int8')
    return found
