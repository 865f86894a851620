# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the machine is: its GPU, driver, libraries, and how much power they may take."""

import contextlib
import ctypes
from importlib import import_module, metadata
import os
from pathlib import Path
import platform
import subprocess

from rgbx_seg_ros.benchmark.doctor import driver
from rgbx_seg_ros.cpu import find_cpu
from rgbx_seg_ros.engines.torch_engine import find_device
from support.gpu.runner import Found
import torch

_ASKED_S = 10.0
_QUERY = ('power.limit', 'power.max_limit', 'clocks.max.sm', 'clocks.max.mem', 'temperature.gpu',
          'compute_mode', 'persistence_mode')


def machine(setting) -> Found:
    """Return what there is; a device that cannot multiply two numbers is a fault."""
    device = find_device(setting.device)
    factor = torch.ones(8, 8, device=device)
    product = float((factor @ factor)[0, 0])
    figures = {
        'system': platform.platform(), 'board': _board(), 'cpu': str(find_cpu()),
        'cores': os.cpu_count(),
        'memory_bytes': os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'),
        'gpu': _gpu(device) if device.type == 'cuda' else None, 'versions': _versions(),
        'power_mode': _said('nvpmodel', '-q').splitlines(),
    }
    name = figures['gpu']['name'] if figures['gpu'] else f'{figures["cpu"]}, no GPU in use'
    return Found(name, figures, [] if product == 8.0 else [f'8 ones times 8 ones is {product}'])


def _gpu(device):
    facts = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device.index)
    values = _said('nvidia-smi', f'--query-gpu={",".join(_QUERY)}', '--format=csv,noheader',
                   f'--id={device.index or 0}').split(', ')
    told = dict(zip(_QUERY, values, strict=False)) if len(values) == len(_QUERY) else {}
    return {
        'name': facts.name, 'compute_capability': f'{facts.major}.{facts.minor}',
        'multiprocessors': facts.multi_processor_count, 'memory_bytes': total,
        'free_bytes': free, 'driver': driver() or None, 'nvidia_smi': told,
    }


def _versions():
    return {
        'python': platform.python_version(), 'torch': torch.__version__,
        'cuda': torch.version.cuda, 'cudnn': torch.backends.cudnn.version(),
        'tensorrt': tensorrt_version(),
        **{name: _version(name) for name in ('onnxruntime', 'onnx', 'onnxscript', 'numpy', 'cv2',
                                             'rclpy')},
    }


def _version(name):
    try:
        module = import_module(name)
    except Exception:  # noqa: BLE001 whatever a broken library raises
        return None
    if found := getattr(module, '__version__', None):
        return found
    for distribution in (name, f'ros-{name}'):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return 'found'


def tensorrt_version() -> str | None:
    """Return the release of TensorRT that is loaded by ONNX Runtime, None where there is none."""
    with contextlib.suppress(ImportError, OSError):
        return str(import_module('tensorrt').__version__)
    for major in range(12, 7, -1):
        with contextlib.suppress(OSError, AttributeError):
            # Up to 9 it is 1000 · major + 100 · minor + patch, from 10 on 10000 · major.
            number = ctypes.CDLL(f'libnvinfer.so.{major}').getInferLibVersion()
            step = 1000 if number < 10_000 else 10_000
            return f'{number // step}.{number % step // 100}.{number % 100}'
    return None


def _board():
    """Return what the board is called, as a Jetson tells; None elsewhere."""
    try:
        name = Path('/proc/device-tree/model').read_text(encoding='utf-8', errors='replace')
    except OSError:
        return None
    return name.strip('\0\n ')


def _said(*command):
    """Return what a command says, '' where it is not there or has nothing to say."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_ASKED_S,
                              check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ''
