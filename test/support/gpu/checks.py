# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The checks of a GPU, the cheap and most telling ones first."""

from importlib import import_module

from support.gpu.runner import Check, Setting


def _late(name: str, *arguments):
    """Return a check's function by name: this list is read where PyTorch is not imported."""
    module, _, function = name.partition(':')

    def call(setting):
        return getattr(import_module(f'support.gpu.{module}'), function)(setting, *arguments)
    return call


NETWORKS = ('gated_lite', 'difusionseg', 'ms2mnet', 'mddg', 'rxssnet', 'ms_irtnet')
"""Those of the package, the small ones first; a test holds that none is missing."""
_FIRST, _OTHER = 'msrs_scene', 'potholes'
_COMPILED = ('compiled', 'compiled_bf16')


def checks(setting: Setting) -> list[Check]:
    """Return them; a dry run leaves out what repeats the same with another model."""
    found = [
        Check('machine', 'what is here', _late('machine:machine'), 0, 60),
        *(Check(f'parity {name}', 'float32 equal to the original, masks in float16 and bfloat16',
                _late('exactness:parity', name), 15, 90, beside=True) for name in NETWORKS),
        Check('graphs', 'CUDA graphs equal to eager', _late('exactness:graphs'), 15, 90,
              beside=True),
        _build('onnx', _FIRST),
        Check('torch', 'whole frames in PyTorch', _late('speed:torch_engines'), 20, 120),
        Check('soak', 'frames without growth', _late('speed:soak'), 15, 150),
        Check('live', 'the live node at 30 Hz', _late('speed:live'), 25, 100),
        *_onnx(_FIRST),
        *(_build(name, _FIRST) for name in _COMPILED),
    ]
    if not setting.dry:
        found += [_build('onnx', _OTHER), *(_build(name, _OTHER) for name in _COMPILED)]
    found += [_compiled(name, _FIRST) for name in _COMPILED]
    if not setting.dry:
        found += [*_onnx(_OTHER), *(_compiled(name, _OTHER) for name in _COMPILED)]
    return found


def _named(name, model):
    return name if model == _FIRST else f'{name}, {model}'


def _build(engine, model):
    return Check(_named(f'build {engine}', model), 'the file of an engine made on the CPU',
                 _late('speed:build', engine, model), 20, 240, beside=True,
                 cache=f'{engine}-{model}')


def _onnx(model):
    return [Check(_named(f'onnx {provider}', model), f'whole frames in ONNX Runtime by {provider}',
                  _late('speed:onnx_engine', provider, model), *times,
                  after=_named('build onnx', model), cache=f'onnx-{model}')
            for provider, *times in (('CUDA', 12, 90), ('TensorRT', 30, 240))]


def _compiled(engine, model):
    return Check(_named(engine, model), 'whole frames in code compiled for the CPU',
                 _late('speed:compiled_engine', engine, model), 12, 90,
                 after=_named(f'build {engine}', model), cache=f'{engine}-{model}')
