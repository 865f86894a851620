# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters for verbs without a node: files and options, and what counts for nothing."""

from argparse import ArgumentParser

import pytest
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.inference import offline
from rgbx_seg_ros.parameters import DEFAULTS, Parameters


@pytest.fixture
def given(tmp_path):
    """Return a function that reads files with these contents, and options."""
    def given(*contents, options=(), used=(*offline.MODEL, 'sync.slop_ms')):
        parser = ArgumentParser()
        offline.add_arguments(parser)
        for i, content in enumerate(contents):
            path = tmp_path / f'{i}.yaml'
            path.write_text(f'/**: {{ros__parameters: {{{content}}}}}')
            options = ['--params-file', str(path), *options]
        return offline.given(parser.parse_args([*options]), used)
    return given


def test_without_a_file_all_is_as_the_node_has_it(given):
    assert given(options=['--model', 'a']) == (Parameters(model='a'), '', True)


def test_options_count_more_than_files(given):
    content = 'model: a, engine: torch_bf16, device: cpu, sync.slop_ms: 3.0'
    assert given(content).parameters == Parameters(
        model='a', engine='torch_bf16', device='cpu', slop_ms=3.0)
    assert given(content, options=['--model', 'b', '--engine', 'onnx', '--device', 'cuda:1']
                 ).parameters == Parameters(model='b', engine='onnx', device='cuda:1', slop_ms=3.0)


def test_the_last_of_several_files_counts(given):
    # The fixture gives the first one last.
    assert given('model: a', 'model: b, sync.slop_ms: 3.0').parameters == Parameters(
        model='a', slop_ms=3.0)


def test_values_of_several_files_are_judged_together(given):
    """As by the node: one by one they may exclude the defaults."""
    late, dead = 'model: a, health.late_ms: 2000.0', 'health.dead_ms: 3000.0'
    assert given(late, dead).parameters.health_dead_ms == 3000.0
    with pytest.raises(ParameterError, match="'health.dead_ms' is 1500.0, allowed is 2000.0"):
        given(late)


def test_what_counts_for_nothing_is_named_once_and_for_all_files(given):
    found = given('health.dead_ms: 900.0, model: a', 'sync.slop_ms: 1.0, autostart: false')
    assert found.remark == ('of the parameter files these count for nothing here: autostart, '
                            'health.dead_ms')
    assert found.parameters.slop_ms == 1.0


def test_a_model_must_be_named(given):
    for contents in ((), ('sync.slop_ms: 1.0',)):
        with pytest.raises(ParameterError, match='no model is named: give --model CARD, or a'):
            given(*contents)


def test_every_name_is_one_of_the_node():
    assert {*offline.MODEL, *offline.REGISTRATION} <= DEFAULTS.to_ros().keys()
