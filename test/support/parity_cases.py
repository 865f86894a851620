# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The runs of the originals in data/parity/, whose README describes the files."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.weights.checkpoint import convert_state_dict, load_into, load_weights
from rgbx_seg_ros.weights.convert import import_weights
from support.fill import fill, image
import torch

DATA = Path(__file__).parents[1] / 'data' / 'parity'
_BUILT = {}


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What is kept of an intermediate."""

    shape: list[int]
    mean: float
    std: float
    first64: np.ndarray

    @classmethod
    def of(cls, tensor):
        """Return the fingerprint of a tensor."""
        values = tensor.detach().numpy()
        return cls(list(values.shape), values.mean(dtype=np.float64),
                   values.std(dtype=np.float64), values.ravel()[:64].copy())


class Case:
    """One run of an original."""

    def __init__(self, path):
        self.network, self.name = path.parts[-3], path.stem
        self._file = np.load(path)
        self.facts = json.loads(str(self._file['case']))
        self.outputs = self.facts['outputs']
        self.input_scale = self.facts.get('input_scale', 1.0)

    def __str__(self):
        return f'{self.network}-{self.name}'

    def authors_state(self):
        """Return a state dict under the authors' names, as their checkpoints hold it."""
        removed, shapes = self.facts.get('removed', ()), dict(self.facts.get('shapes', {}))
        state = {}
        for entry in keys_of(self.network):
            key = entry['key']
            if key not in removed and not entry.get('computed'):
                entry = {**entry, 'shape': shapes.pop(key, entry['shape'])}
                state[key] = _filled(entry)
        state.update((key, _filled({'key': key, 'shape': shape})) for key, shape in shapes.items())
        return state

    def build(self, folder):
        """
        Return our network with the weights of the run, imported in `folder` as a user does.

        Runs with the same weights that follow each other share it.
        """
        key = self.weights_key
        if key not in _BUILT:
            _BUILT.clear()  # half a gigabyte each
            _BUILT[key] = self._import(folder)
        return _BUILT[key]

    @property
    def weights_key(self):
        """What the weights of the run depend on, as a text."""
        return json.dumps([self.network, *(self.facts.get(name) for name in (
            'num_classes', 'network_args', 'removed', 'shapes'))])

    def load(self):
        """Return our network with the weights of the run, which go through no file."""
        state = convert_state_dict(self.network, self.authors_state(),
                                   **self.facts['network_args'])
        net = build(self.network, self.facts['num_classes'], **self.facts['network_args'])
        load_into(net, state, self)
        return net.eval()

    def _import(self, folder):
        theirs, ours = folder / 'theirs.pth', folder / 'ours.safetensors'
        torch.save({'state_dict': self.authors_state()}, theirs)
        import_weights(theirs, ours, self.network)
        net = build(self.network, self.facts['num_classes'], **self.facts['network_args'])
        load_into(net, load_weights(ours), ours)
        for path in (theirs, ours):  # half a gigabyte each
            path.unlink()
        return net.eval()

    def inputs(self, dtype=torch.float32):
        """Return the inputs of the run by name: rgb, x and, where one is needed, noise."""
        salt = self.facts.get('image_salt', '')
        images = {name: image(name, tuple(shape), salt)
                  for name, shape in self.facts['inputs'].items()}
        return {name: self.input_scale * torch.from_numpy(values).to(dtype)
                for name, values in images.items()}

    def output(self, name):
        """Return the values kept of an output, and a function that takes the same ones of ours."""
        facts = self.outputs[name]
        start, step = facts['offset'], facts['stride']

        def ours(values):
            assert list(values.shape) == facts['shape']
            return values[:, :, start::step, start::step]

        return self._file[name], ours

    @property
    def is_large(self):
        """Tell whether its images are those of a camera, which take seconds."""
        return any(np.prod(shape) > 2 ** 19 for shape in self.facts['inputs'].values())

    def stages(self):
        """Return the fingerprints of the intermediates by name."""
        rows = zip(self.facts['stages'].items(), self._file['stage_mean_std'],
                   self._file['stage_first64'], strict=True)
        return {name: Fingerprint(shape, mean, std, first64[~np.isnan(first64)])
                for (name, shape), (mean, std), first64 in rows}

    def forced(self):
        """Return by name the masks that a run goes on with, and how clear each decision was."""
        masks = {}
        for name, facts in self.facts.get('forced', {}).items():
            bits = np.unpackbits(self._file[f'forced/{name}'], count=np.prod(facts['shape']))
            masks[name] = torch.from_numpy(bits.reshape(facts['shape'])), facts['gap']
        return masks


def keys_of(network):
    """Return the published names of a network in order, with shapes and remarks."""
    return json.loads((DATA / network / 'keys.json').read_text())


def meta_of(network):
    """Return source and counts of a network."""
    return json.loads((DATA / network / 'meta.json').read_text())


def _filled(entry):
    drawn = fill(entry['key'], tuple(entry.get('fill_shape', entry['shape'])))
    values = torch.from_numpy(np.asarray(drawn)).reshape(entry['shape'])
    return values + entry['fill_add'] if 'fill_add' in entry else values


CASES = [Case(path) for network in NETWORKS for path in sorted(DATA.glob(f'{network}/runs/*'))]
