# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Every network equals its original: names, logits and intermediates.

Its weights come out of a checkpoint like the authors', through the import that a user runs. A new
network adds the runs of its original to data/parity/ and its line to `STAGES`, in
support/parity_stages.py.
"""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
from rgbx_seg_ros.networks import build
from rgbx_seg_ros.weights.checkpoint import convert_state_dict
from support.parity_cases import CASES, Fingerprint, keys_of, meta_of
from support.parity_runs import forward, watch
from support.trials import PUBLISHED
import torch

CLEAR = 2e-6  # gaps between two cosines that float32 cannot mistake; 5e-7 of noise were seen


def params(cases):
    """Return the cases as parameters of a test, the large ones marked."""
    return [pytest.param(case, marks=[pytest.mark.long] if case.is_large else [], id=str(case))
            for case in cases]


@pytest.fixture(scope='module', params=params(CASES))
def run(request, tmp_path_factory):
    """Return a run of an original, and what our network makes of the same weights and inputs."""
    case = request.param
    net, forced = case.build(tmp_path_factory.mktemp('weights')), case.forced()
    seen, hooks = watch(net, case.network, [*case.stages(), *forced],
                        {name: mask for name, (mask, _) in forced.items()})
    with torch.inference_mode():
        outputs = forward(net, case.inputs())
    for hook in hooks:
        hook.remove()
    return SimpleNamespace(case=case, net=net, outputs=outputs, seen=seen)


def runs_with(condition):
    """Run a test for the cases of which `condition` is true."""
    return pytest.mark.parametrize('run', params(filter(condition, CASES)), indirect=True)


@pytest.mark.parametrize('name', PUBLISHED)
def test_every_published_name_is_mapped_and_every_parameter_of_ours_is_given(name):
    keys, meta = keys_of(name), meta_of(name)
    state = {entry['key']: torch.empty(entry['shape'], device='meta') for entry in keys}
    converted = convert_state_dict(name, state)
    assert converted.missing == []
    assert converted.unexpected == []
    idle = [e['key'] for e in keys if e.get('unused') or e.get('computed')]
    assert sorted(converted.unused) == sorted(idle)
    with torch.device('meta'):
        ours = build(name, meta['num_classes'])
    assert {key: value.shape for key, value in converted.items()} == {
        key: value.shape for key, value in ours.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == meta['parameters_used']


@pytest.mark.parametrize('name', PUBLISHED)
def test_every_network_has_runs_of_its_original(name):
    assert [case for case in CASES if case.network == name]


def test_outputs_in_float32_equal_the_originals(run):
    for name, ours in run.outputs.items():
        if name not in run.case.outputs:
            continue
        theirs, pick = run.case.output(name)
        np.testing.assert_allclose(pick(ours.numpy()), theirs, rtol=0, err_msg=name,
                                   atol=run.case.outputs[name]['tolerance'])


def test_the_classes_chosen_are_the_originals(run):
    theirs, pick = run.case.output('logits')
    differing = (pick(run.outputs['logits'].numpy()).argmax(1) != theirs.argmax(1)).mean()
    assert differing <= 1e-4  # a tie may fall to either side


@runs_with(lambda case: case.forced())
def test_masks_equal_the_originals_where_rounding_cannot_decide(run):
    for name, (mask, gap) in run.case.forced().items():
        differing = int((run.seen[name] != mask).sum())
        assert differing <= (0 if gap > CLEAR else 2), name


def test_intermediates_have_the_originals_fingerprints(run):
    for name, theirs in run.case.stages().items():
        ours = Fingerprint.of(run.seen[name])
        assert ours.shape == theirs.shape, name
        scale = max(1.0, theirs.std) * run.case.input_scale
        for part, tolerance in (('mean', 2e-6), ('std', 2e-6), ('first64', 1e-4)):
            np.testing.assert_allclose(getattr(ours, part), getattr(theirs, part), rtol=0,
                                       atol=tolerance * scale, err_msg=f'{name} {part}')


@runs_with(lambda case: 'logits_f64' in case.outputs)
def test_logits_in_float64_equal_the_originals(run):
    theirs, pick = run.case.output('logits_f64')
    with torch.inference_mode():
        logits = copy.deepcopy(run.net).double()(**run.case.inputs(torch.float64)).numpy()
    np.testing.assert_allclose(pick(logits), theirs, rtol=0,
                               atol=run.case.outputs['logits_f64']['tolerance'])
