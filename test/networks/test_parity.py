# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Every network equals its original: names, logits and intermediates, from outputs kept in data/.

`data/parity/<network>/` holds what the authors' modules made of `fill` weights and `image`
inputs: keys.json (their parameter names), io*.npz (logits and fingerprints of intermediates) and
meta.json (where they come from). A new network adds its folder and its entry in `STAGES`.
"""

import copy
import functools
import json
from pathlib import Path

from fill import fill, image
import numpy as np
import pytest
from rgbx_seg_ros.checkpoint import convert_state_dict, load_into
from rgbx_seg_ros.networks import build, NETWORKS
import torch

DATA = Path(__file__).parents[1] / 'data' / 'parity'
CASES = [(name, path.name) for name in NETWORKS for path in sorted((DATA / name).glob('io*.npz'))]

_ENCODERS = {
    'enc_rgb.stem': 'encoder_rgb.downsample_layers.0',
    'enc_rgb.s1.block0': 'encoder_rgb.stages.0.0',
    'enc_rgb.s{i}': 'encoder_rgb.stages.{j}',
    'enc_x.s{i}': 'encoder_x.stages.{j}',
}
# Stage of the fixture: path of our module, and the index where its output is a tuple;
# i counts the four scales from 1, j from 0.
STAGES = {
    'ms_irtnet': {
        **_ENCODERS,
        'gwim.s{i}.rgb': ('gwim.{j}', 0),
        'gwim.s{i}.x': ('gwim.{j}', 1),
        'fiim.s{i}.attn1': ('fiim.{j}.cross.cross_attn', 0),
        'fiim.s{i}.attn2': ('fiim.{j}.cross.cross_attn', 1),
        'fiim.s{i}.cross': 'fiim.{j}.cross',
        'fiim.s{i}': 'fiim.{j}',
        'decoder.fuse': 'decoder.linear_fuse',
        'decoder.logits4': 'decoder.linear_pred',
    },
    'rxssnet': {
        **_ENCODERS,
        'rope.s{i}': 'cgpi.{j}.mlla.attn.rope',
        'cgpi.s{i}.linattn': 'cgpi.{j}.mlla.attn',
        'cgpi.s{i}': 'cgpi.{j}',
        'crm.s{i}.rgb': ('crm.{j}', 0),
        'crm.s{i}.x': ('crm.{j}', 1),
        'lam.s{i}.embed_rgb': 'lam.{j}.embed_rgb',
        'lam.s{i}.embed_x': 'lam.{j}.embed_x',
        'lam.s{i}.cross': 'lam.{j}.cross',
        'lam.s{i}': 'lam.{j}',
        'decoder.c43': 'decoder.linear_fuse43',
        'decoder.c32': 'decoder.linear_fuse32',
        'decoder.c21': 'decoder.linear_fuse21',
        'decoder.logits4': 'decoder.linear_pred',
    },
}
# The original of RXSSNet rounds queries and keys to float32 even in a float64 run.
FLOAT64_TOLERANCE = {'ms_irtnet': 1e-9, 'rxssnet': 1e-8}
FLOAT32_TOLERANCE = 2e-4  # 1e-5 is seen on x86-64; other kernels add in another order


def authors_keys(name):
    return json.loads((DATA / name / 'keys.json').read_text())


@functools.lru_cache(maxsize=1)
def filled(name):
    """Return the published size of a network with `fill` weights under the authors' names."""
    state = {
        entry['key']: torch.from_numpy(fill(entry['key'], tuple(entry['shape'])))
        for entry in authors_keys(name) if not entry.get('computed')}
    net = build(name, num_classes=9)
    load_into(net, convert_state_dict(name, state), 'fill')
    return net.eval()


def inputs(fixture, dtype=torch.float32):
    shape = (1, 3, *fixture['input_hw'].tolist())
    return [torch.from_numpy(image(which, shape)).to(dtype) for which in ('rgb', 'x')]


def fingerprint(tensor):
    values = tensor.numpy()
    return {
        'shape': list(values.shape),
        'mean': values.mean(dtype=np.float64),
        'std': values.std(dtype=np.float64),
        'first64': values.ravel()[:64].copy(),
    }


def stages_of(name):
    for stage, place in STAGES[name].items():
        path, index = place if isinstance(place, tuple) else (place, None)
        for j in range(4) if '{i}' in stage else (0,):
            yield stage.format(i=j + 1), path.format(j=j), index


@pytest.fixture(scope='module', params=CASES, ids='-'.join)
def run(request):
    """Return an original's fixture file, our logits for its inputs and our fingerprints."""
    name, file = request.param
    fixture = np.load(DATA / name / file)
    net, seen = filled(name), {}

    def record(stage, index):
        def hook(module, args, out):
            seen[stage] = fingerprint(out if index is None else out[index])
        return hook

    handles = [net.get_submodule(path).register_forward_hook(record(stage, index))
               for stage, path, index in stages_of(name)]
    rgb, x = inputs(fixture)
    with torch.inference_mode():
        logits = net(rgb, x)
    for handle in handles:
        handle.remove()
    seen |= {key: fingerprint(value) for key, value in
             (('input_rgb', rgb), ('input_x', x), ('logits', logits))}
    return fixture, logits.numpy(), seen


@pytest.mark.parametrize('name', NETWORKS)
def test_every_published_name_is_mapped_and_every_parameter_of_ours_is_given(name):
    keys = authors_keys(name)
    state = {entry['key']: torch.empty(entry['shape'], device='meta') for entry in keys}
    converted = convert_state_dict(name, state)
    assert converted.missing == []
    assert converted.unexpected == []
    idle = [e['key'] for e in keys if e.get('unused') or e.get('computed')]
    assert sorted(converted.unused) == sorted(idle)
    with torch.device('meta'):
        ours = build(name, num_classes=9).state_dict()
    assert {key: value.shape for key, value in converted.items()} == {
        key: value.shape for key, value in ours.items()}


@pytest.mark.parametrize('name', NETWORKS)
def test_the_used_parameters_are_as_many_as_the_original_has(name):
    meta = json.loads((DATA / name / 'meta.json').read_text())
    with torch.device('meta'):
        net = build(name, num_classes=9)
    assert sum(p.numel() for p in net.parameters()) == meta['params_used']


@pytest.mark.parametrize('name', NETWORKS)
def test_every_network_has_fixtures_of_its_original(name):
    assert [case for case in CASES if case[0] == name]


def test_logits_in_float32_equal_the_originals(run):
    fixture, logits, _ = run
    step, start = int(fixture['logits_stride']), int(fixture['logits_offset'])
    assert list(logits.shape) == fixture['logits_shape'].tolist()
    np.testing.assert_allclose(
        logits[:, :, start::step, start::step], fixture['logits'], rtol=0, atol=FLOAT32_TOLERANCE)


def test_the_classes_chosen_are_the_originals(run):
    fixture, logits, _ = run
    counts = np.bincount(logits.argmax(1).ravel(), minlength=logits.shape[1])
    # A tie may fall to either side.
    assert np.abs(counts - fixture['argmax_counts']).sum() <= 1e-4 * counts.sum()


def test_intermediates_have_the_originals_fingerprints(run):
    fixture, _, seen = run
    assert set(seen) == {key.split('/')[1] for key in fixture.files if key.startswith('fp/')}
    for stage, ours in seen.items():
        theirs = {part: fixture[f'fp/{stage}/{part}'] for part in ours}
        assert ours['shape'] == theirs['shape'].tolist(), stage
        scale = max(1.0, float(theirs['std']))
        for part, tolerance in (('mean', 2e-6), ('std', 2e-6), ('first64', 1e-4)):
            np.testing.assert_allclose(
                ours[part], theirs[part], rtol=0, atol=tolerance * scale, err_msg=stage)


@pytest.mark.parametrize(
    'case', [case for case in CASES if np.load(DATA.joinpath(*case))['input_hw'][0] < 200],
    ids='-'.join)
def test_logits_in_float64_equal_the_originals(case):
    name, _ = case
    fixture = np.load(DATA.joinpath(*case))
    net = copy.deepcopy(filled(name)).double()
    with torch.inference_mode():
        logits = net(*inputs(fixture, torch.float64)).numpy()
    step = int(fixture['logits_f64_stride'])
    np.testing.assert_allclose(
        logits[:, :, ::step, ::step], fixture['logits_f64'], rtol=0, atol=FLOAT64_TOLERANCE[name])
