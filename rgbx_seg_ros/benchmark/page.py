# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What `rgbx-seg benchmark` has measured, as text in 80 columns."""

import itertools

from rgbx_seg_ros.tables import aligned, wrapped

_COLUMNS = ('engine', 'p50', 'p95', 'p99', 'fps', 'pre', 'net', 'post', 'copy', 'MB', 'GMAC',
            'roof', 'ratio')
_LEGEND = (
    'ms a frame, from a raw pair in memory to mask and confidence in memory, one after the other; '
    'fps: frames a second. pre (range of X, normalization, scaling), net, post (scaling back, '
    'softmax, maximum) and copy: medians of {staged} further frames; - where an engine cannot be '
    'looked into. wait: for which another thread of Python, such as that of the callbacks in a '
    'node, got no turn in as many frames. MB: {memory}. GMAC: multiply-adds of the network as it '
    'runs. roof: least time for these, and to read weights and frames once, at the peaks above / '
    "net. ratio: of p50 to plain's, which is PyTorch in float32 with nothing folded.")


def page(facts: dict) -> str:
    """Return the facts of a `Comparison` as a text: the machine, a table, what it means."""
    rows = facts['rows']
    titles, *texts = aligned(
        [_COLUMNS, *(_cells(row, _plain_of(row, rows)) for row in rows)],
        '<' + '>' * (len(_COLUMNS) - 1), gap=' ')
    lines = [*_machine(facts), '', titles]
    for _, group in itertools.groupby(zip(rows, texts, strict=True),
                                      lambda pair: pair[0]['model']):
        group = list(group)
        lines += ['', _title(group[0][0]), *(text for _, text in group)]
        waits = (f'{row["engine"]} {_short(row["longest_wait_ms"])}' for row, _ in group)
        lines += _wrapped([f'longest wait of another thread: {", ".join(waits)}'])
        lines += _wrapped(f'{row["engine"]}: {row["note"]}' for row, _ in group if row['note'])
    return '\n'.join([*lines, '', wrapped(_legend(facts))])


def _machine(facts):
    versions = ', '.join(f'{name} {version}' for name, version in facts['versions'].items())
    before, after = facts['load_1_minute']
    peaks = ', '.join(f'{name} {rate / 1e9:.4g} GFLOP/s'
                      for name, rate in facts['peak_flops'].items())
    engines = {row['engine']: row['runs_on'] for row in facts['rows'] if not row['note']}
    return _wrapped([
        f'{facts["cores"]} cores of {facts["cpu"]}, {facts["threads"]} threads, load '
        f'{before:.1f} before and {after:.1f} after',
        versions,
        f'{facts["frames"]} frames, {facts["frame_kind"]}',
        'engines: ' + ', '.join(f'{name} ({place})' for name, place in engines.items()),
        f'peaks: {peaks}, copy {facts["peak_bytes_per_s"] / 1e9:.3g} GB/s'])


def _plain_of(row, rows):
    """Return the first row of the same model, which the others are compared with."""
    return next(one for one in rows if one['model'] == row['model'])


def _title(row):
    height, width = row['input_size']
    weights = ', random weights' if row['random_weights'] else ''
    return (f'{row["model"]}: {row["network"]} at {width}x{height}, '
            f'{row["parameters"] / 1e6:.2f} M parameters{weights}')


def _cells(row, plain):
    stages, memory, share = row['stages_ms'] or {}, row['memory_mb'], row['roof_share']
    return (row['engine'],
            *(_short(row[f'{name}_ms']) for name in ('p50', 'p95', 'p99')),
            _short(row['frames_per_s']),
            *(_short(stages.get(name)) for name in ('pre', 'network', 'post', 'copy')),
            f'{memory["peak"]:.0f}' if memory else '-',
            _short(row['macs'] / 1e9),
            f'{100 * share:.0f}%' if share else '-',
            f'{row["p50_ms"] / plain["p50_ms"]:.2f}')


def _short(value):
    """Return a number with three digits, or all that stand before the point."""
    if value is None:
        return '-'
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f'{value:.{digits}f}'


def _wrapped(texts):
    return [wrapped(text, indent='    ') for text in texts]


def _legend(facts):
    rows = facts['rows']
    before = [row['memory_mb']['before'] for row in rows if row['memory_mb']]
    staged = max(len(row['all_stages_ms']) for row in rows)
    if facts['device'].startswith('cuda'):
        memory = 'most that PyTorch had allocated on the device'
    else:
        memory = 'most that was resident in a process of its own'
        if before:
            memory += f', {max(before):.0f} of it before the model'
    return _LEGEND.format(staged=staged, memory=memory)
