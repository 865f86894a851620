# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What holds for the health of two sensors whatever they do."""

from hypothesis import given
from hypothesis import strategies as st
from rgbx_seg_ros.health.assessor import Assessor
from rgbx_seg_ros.health.monitor import FAILED, MODES, POLICIES, STATES
from rgbx_seg_ros.health.report import CLOCKS, DIAGNOSTICS, DROPS, Level
from support.health_reports import sample_report
from support.health_rig import Rig, running
from support.pairing_streams import always

KINDS = ('silent', 'frozen', 'saturated', 'late frames', 'late pixels', 'flashes')


def outage(rig, modality, kind, duration_ms, rng):
    """Let one modality fail for a while, or stay just at the limit where it does."""
    start_ms = changed_ms = frame_ms = rig.now_ms
    while rig.now_ms < start_ms + duration_ms:
        at_ms, share = rig.now_ms + 100, 0.0
        if kind == 'late pixels' and at_ms >= changed_ms + rng.randint(1900, 2100):
            changed_ms = at_ms
        if kind == 'saturated' or (kind == 'flashes' and at_ms % 500 == 0):
            share = 1.0
        still = kind in ('frozen', 'late pixels')
        if kind != 'silent' and (
                kind != 'late frames' or at_ms >= frame_ms + rng.randint(1400, 1600)):
            frame_ms = at_ms
            rig.frame(modality, at_ms, pixels=-changed_ms if still else None, share=share)
        rig.frame('x' if modality == 'rgb' else 'rgb', at_ms)
        rig.wait(at_ms)


outages = st.lists(st.tuples(st.sampled_from(('rgb', 'x')), st.sampled_from(KINDS),
                             st.integers(100, 12_000), st.integers(2000, 5000)), max_size=5)


@always
@given(outages, st.sampled_from(POLICIES), st.randoms(use_true_random=False))
def test_the_mode_changes_no_more_than_twice_for_each_outage(outages, policy, rng):
    rig = running(policy=policy)
    for modality, kind, duration_ms, good_ms in outages:
        modes = len(rig.modes)
        outage(rig, modality, kind, duration_ms, rng)
        rig.run(rig.now_ms + good_ms)
        assert len(rig.modes) - modes in (0, 2), (modality, kind)
        assert rig.health.mode == 'fusion'


calls = st.lists(st.tuples(
    st.sampled_from(('rgb', 'x', 'time')), st.sampled_from((1, 30, 100, 749, 751, 1600, 9000)),
    st.sampled_from((1, 33, 0, -100, -5000)), st.integers(1, 2), st.sampled_from((0.0, 1.0))),
    max_size=60)


@always
@given(calls, st.sampled_from((0, 300, 1000)))
def test_whatever_comes_a_sensor_that_failed_is_not_used_before_the_recovery_time(
        calls, recovery_ms):
    rig = Rig(recovery_ms=recovery_ms, start_ms=3000, frozen_ms=1000)
    failing_ms = {}
    stamp_ms = {'rgb': 10_000, 'x': 10_000}
    for name, step_ms, stamp_step_ms, pixels, share in calls:
        before = rig.health.states
        rig.wait(rig.now_ms + step_ms)
        if name != 'time':
            stamp_ms[name] += stamp_step_ms
            rig.frame(name, stamp_ms=stamp_ms[name], pixels=pixels, share=share)
        for modality, state in rig.health.states.items():
            if state in FAILED and before[modality] not in FAILED:
                failing_ms[modality] = rig.now_ms
            elif state not in FAILED and before[modality] in FAILED:
                assert rig.now_ms - failing_ms.pop(modality) >= recovery_ms
                assert modality == name, 'only a frame of its own shows that a sensor is back'
                assert share == 0.0
        assert set(rig.health.states.values()) <= set(STATES)
        assert rig.health.mode in MODES


seconds = st.tuples(
    st.lists(st.tuples(st.sampled_from(('rgb', 'x')), st.sampled_from((1, 33, 0, -100, -5000)),
                       st.integers(1, 2), st.sampled_from((0.0, 1.0, None))), max_size=4),
    st.integers(0, 3), st.integers(0, 3), st.dictionaries(
        st.sampled_from(sorted(DROPS)), st.integers(0, 5), max_size=3),
    st.sampled_from((None, -100.0, 20.0, 1500.0, 3000.0, 1e9)),
    st.sampled_from(sorted(CLOCKS)), st.integers(1, 3000))


@always
@given(st.lists(seconds, max_size=20), st.sampled_from(POLICIES), st.sampled_from((0, 10_000)))
def test_whatever_comes_the_node_tells_of_it_and_is_ok_only_while_masks_come(
        told, policy, first_stamp_ms):
    rig, assessor = Rig(policy=policy, start_ms=3000), Assessor()
    rig.wait(0)
    stamp_ms = dict.fromkeys(('rgb', 'x'), first_stamp_ms)
    received, drops, pairs, masks, quiet_ms = {'rgb': 0, 'x': 0}, dict.fromkeys(DROPS, 0), 0, 0, 0
    for frames, more_pairs, more_masks, dropped, age_ms, clock, passed_ms in told:
        rig.wait(rig.now_ms + passed_ms)
        for name, step_ms, pixels, share in frames:
            stamp_ms[name] += step_ms
            received[name] += 1
            rig.frame(name, stamp_ms=stamp_ms[name], pixels=pixels, share=share)
        pairs, masks = pairs + more_pairs, masks + more_masks
        drops = {reason: count + dropped.get(reason, 0) for reason, count in drops.items()}
        refusal = 'bad step' * any(drops[f'x_{reason}'] or drops['rgb_malformed']
                                   for reason in ('malformed', 'unregistered'))
        quiet_ms = 0 if more_masks else quiet_ms + passed_ms
        sections = assessor.assess(sample_report(
            rig.now_ms / 1e3, health=rig.health.summary(), pairs=pairs, masks=masks, drops=drops,
            rgb_received=received['rgb'], x_received=received['x'], rgb_stamp_age_ms=age_ms,
            x_stamp_age_ms=age_ms, rgb_refusal=refusal, x_refusal=refusal, clock=clock))
        assert sections.keys() == DIAGNOSTICS.keys()
        for status in sections.values():
            assert status.level != Level.STALE
            assert status.message and status.message == status.message.strip(' ;:')
        head = sections['segmentation']
        if head.level == Level.OK:
            assert masks and rig.health.mode == 'fusion' and head.values['masks_hz'] != '0.00'
        if masks and quiet_ms > 30_000:
            assert head.level != Level.OK
