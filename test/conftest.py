# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What several test files need: a card that runs in milliseconds, frames to go with it."""

from contextlib import redirect_stdout
import copy
import io
import os
import shutil

import cv2
import numpy as np
import pytest
import yaml

# Before torch is imported, and for the processes that tests start: the networks here are small,
# and threads fight on a busy machine.
os.environ.setdefault('OMP_NUM_THREADS', '1')

_CARD = {
    'name': 'tiny',
    'description': 'A network of the smallest size.',
    'network': 'ms_irtnet',
    'network_args': {'backbone': 'atto', 'decoder_width': 16, 'gwim_ratio': 0.5},
    'classes': [{'id': 0, 'name': 'background', 'color': [0, 0, 0]},
                {'id': 1, 'name': 'car', 'color': [30, 120, 255]},
                {'id': 2, 'name': 'person', 'color': [255, 60, 40]}],
    'input_size': [64, 96],
    'rgb': {'mean': [0.5, 0.4, 0.3], 'std': [0.2, 0.25, 0.3]},
    'x': {'kind': 'thermal', 'mean': [0.5, 0.5, 0.5], 'std': [0.2, 0.2, 0.2]},
}


@pytest.fixture
def card_content():
    """Return a valid card as its YAML file holds it, to be changed at will."""
    return copy.deepcopy(_CARD)


@pytest.fixture
def write_card(tmp_path, card_content):
    """Return a function that writes the card, with changes, and returns its path."""
    def write(**changes):
        path = tmp_path / 'tiny.yaml'
        path.write_text(yaml.safe_dump({**card_content, **changes}))
        return path
    return write


@pytest.fixture(scope='session')
def tiny_card(tmp_path_factory):
    """Return the path of a card with weights, which are random and always the same."""
    from rgbx_seg_ros.networks import build
    from rgbx_seg_ros.weights.checkpoint import save_weights
    import torch

    folder = tmp_path_factory.mktemp('models')
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build('ms_irtnet', 3, **_CARD['network_args'])
    save_weights(network, folder / 'tiny.safetensors')
    path = folder / 'tiny.yaml'
    path.write_text(yaml.safe_dump({**_CARD, 'weights': {'file': 'tiny.safetensors'}}))
    return path


@pytest.fixture(scope='session')
def exported(tiny_card, tmp_path_factory):
    """
    Return the path of that card's model as an ONNX file, and what the command has said of it.

    It is for 70x90 RGB with 50x60 X of uint16; no test may change it.
    """
    from rgbx_seg_ros.__main__ import parse

    path = tmp_path_factory.mktemp('export') / 'tiny.onnx'
    args = parse(['export', str(tiny_card), '-o', str(path), '--size', '70', '90',
                  '--x-size', '50', '60', '--x-type', 'uint16'])
    with redirect_stdout(io.StringIO()) as said:
        args.main(args)
    return path, said.getvalue()


@pytest.fixture
def write_frames():
    """Return a function that makes a folder of labelled pairs a0, a1, ... and returns its path."""
    def write(root, count=4, size=(64, 96), x_folder='thermal', x_type=np.uint8):
        for folder in ('rgb', x_folder, 'label'):
            (root / folder).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng(i)
            # A warm, red person on noise: what a network can learn in a few steps.
            label = np.zeros(size, np.uint8)
            top, left = (int(rng.integers(0, side // 2)) for side in size)
            label[top:top + size[0] // 2, left:left + size[1] // 3] = 2
            rgb = rng.integers(0, 80, (*size, 3), np.uint8)
            rgb[label == 2, 0] += 150
            x = rng.integers(0, 80, size).astype(x_type)
            x[label == 2] += 150
            for folder, image in (('rgb', rgb[..., ::-1]), (x_folder, x), ('label', label)):
                assert cv2.imwrite(str(root / folder / f'a{i}.png'), image)
        return root
    return write


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that runs `rgbx-seg` in this process: exit code, stdout, stderr."""
    from rgbx_seg_ros.__main__ import main

    def run(*arguments):
        monkeypatch.setattr('sys.argv', ['rgbx-seg', *map(str, arguments)])
        monkeypatch.setenv('COLUMNS', '80')
        capsys.readouterr()
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        return (code, *capsys.readouterr())
    return run


@pytest.fixture(scope='module')
def browser():
    """Return headless Chromium: that of the system, or that of playwright."""
    api = pytest.importorskip('playwright.sync_api', reason='looks at the page in a browser')
    names = ('chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome')
    path = next(filter(None, map(shutil.which, names)), None)
    with api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=path)
        except api.Error as error:
            pytest.skip(f'looks at the page in Chromium: {str(error).splitlines()[0]}')
        yield chromium
        chromium.close()
