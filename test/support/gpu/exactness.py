# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whether a device computes what it must: parity with the originals, half precision, CUDA graphs.

Inputs and originals' outputs are those of data/parity/, as in test/networks/test_parity.py.
"""

import copy
from dataclasses import replace
import warnings

import numpy as np
from rgbx_seg_ros.benchmark.benchmark import network_card
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import torch_engine
from rgbx_seg_ros.engines.model_files import BOUNDS
from rgbx_seg_ros.engines.torch_engine import network_of, TorchEngine
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.weights.checkpoint import load_into, load_weights
from support.gpu import dry
from support.gpu.runner import Found
from support.parity_cases import CASES
from support.parity_runs import forward, watch
from support.trials import COMPACT, OWN, TRIALS
import torch

SLACK = {'cpu': 1.0, 'cuda': 10.0}
"""
How many times the bound of a CPU an output may be from the original's.

cuDNN may choose Winograd's algorithm for a float32 convolution. On tiles of 4x4 its largest error
was 4 to 10 times that of the plain sum, in NumPy with 32 to 512 channels. TensorFloat-32, which is
switched off here, has steps 8000 times as large as float32: it does not pass for rounding.
"""
TIED = {'cpu': 1e-4, 'cuda': 1e-3}
"""Share of the pixels whose two best classes may be so close that either of them wins."""
CLEAR = 0.1
"""
Lead of the best class in float32, in standard deviations of the logits, at which half precision
must not matter. Random weights leave many pixels with less, of which no trained model has many: on
a CPU float16 changes up to 0.2 % of all pixels so, bfloat16 up to 2 %, and none of the clear ones.
"""
HALVES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}
OWN_MODEL = 'msrs_scene'


def parity(setting, network: str) -> Found:
    """Compare a network in float32 with its original, and its masks in half precision with it."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = torch.device(setting.device)
    if network in OWN:
        return _own(device)
    cases = [case for case in CASES if case.network == network]
    if setting.dry:
        cases = [min(cases, key=lambda case: (
            case.input_scale != 1.0, sum(map(np.prod, case.facts['inputs'].values()))))]
    found, rows, halves, net, built = Found(), [], {}, None, None
    for case in sorted(cases, key=lambda case: case.weights_key):
        if built != case.weights_key:
            net, built = case.load().to(device), case.weights_key
        outputs = _run(net, case, device)
        rows += [_row(case, name, outputs[name].cpu().numpy(), device, found)
                 for name in case.outputs if name in outputs]
        if case.input_scale == 1.0:
            for name, kind in HALVES.items():
                halves[f'{case.name} {name}'] = _in_half(net, case, device, name, kind,
                                                         outputs['logits'], found)
    _finish(found, rows, halves)
    return found


def _run(net, case, device, kind=None):
    """Return the outputs of a run by name; where it goes on with masks, those of the original."""
    masks = {name: mask for name, (mask, _) in case.forced().items()}
    _, hooks = watch(net, case.network, [*masks], masks)
    inputs = {name: values.to(device) for name, values in case.inputs().items()}
    try:
        with torch.inference_mode(), torch.autocast(device.type, kind, enabled=kind is not None):
            return forward(net, inputs)
    finally:
        for hook in hooks:
            hook.remove()


def _row(case, name, values, device, found):
    theirs, pick = case.output(name)
    ours, slack = pick(values), SLACK[device.type]
    row = {'case': str(case), 'output': name, 'bound': slack * case.outputs[name]['tolerance'],
           'largest_difference': float(np.abs(ours - theirs).max())}
    if not row['largest_difference'] <= row['bound']:
        found.faults.append(f'{case} {name} is {row["largest_difference"]:.2g} from the '
                            f"original's, allowed is {row['bound']:.2g}")
    if name == 'logits':
        row['other_class'] = float((ours.argmax(1) != theirs.argmax(1)).mean())
        if row['other_class'] > TIED[device.type]:
            found.faults.append(f'{case}: {100 * row["other_class"]:.3g} % of the pixels have '
                                f'another class, allowed is {100 * TIED[device.type]:g} %')
    return row


def _in_half(net, case, device, name, kind, exact, found):
    """Return how far the mask in half precision is from that in float32, of one run."""
    return _masks(str(case), _run(net, case, device, kind)['logits'], exact, name, found)


def _masks(title, logits, exact, name, found):
    best = exact.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > CLEAR * exact.std()
    differs = logits.float().argmax(1) != exact.argmax(1)
    share = float((differs & clear).sum() / clear.sum().clamp(min=1))
    figures = {'differ': float(differs.float().mean()), 'clear_share': float(clear.float().mean()),
               'differ_of_clear': share, 'finite': bool(logits.isfinite().all())}
    if not figures['finite']:
        found.faults.append(f'{title} in {name} has logits that are no numbers')
    if share > BOUNDS[name][0]:
        found.faults.append(f'{title} in {name}: {100 * share:.3g} % of the clear pixels have '
                            f'another class, allowed is {100 * BOUNDS[name][0]:g} %')
    return figures


def _own(device):
    """Compare the network of a shipped model, which has no original, with float64 on the CPU."""
    card = load_card(OWN_MODEL)
    net = network_of(card).eval()
    load_into(net, load_weights(card.find_weights()), card.weights_path)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, channels, *card.input_size, generator=generator)
              for channels in (3, net.X_CHANNELS)]
    found, exact_net = Found(), copy.deepcopy(net).double()
    with torch.inference_mode():
        exact = exact_net(*(one.double() for one in inputs))
        on_cpu = float((net(*inputs).double() - exact).abs().max())
    net, inputs = net.to(device), [one.to(device) for one in inputs]
    with torch.inference_mode():
        logits = net(*inputs)
        difference = float((logits.cpu().double() - exact).abs().max())
        row = {'case': f'{OWN_MODEL} in float64', 'output': 'logits',
               'bound': SLACK[device.type] * on_cpu, 'largest_difference': difference}
        if not difference <= row['bound']:
            found.faults.append(f'{OWN_MODEL} is {difference:.2g} from float64, allowed is '
                                f'{row["bound"]:.2g}')
        halves = {}
        for name, kind in HALVES.items():
            with torch.autocast(device.type, kind):
                half = net(*inputs)
            halves[f'{OWN_MODEL} {name}'] = _masks(OWN_MODEL, half, logits, name, found)
    _finish(found, [row], halves)
    return found


def _finish(found, rows, halves):
    nearest = max(rows, key=lambda row: row['largest_difference'] / row['bound'])
    worst = {name: max((one['differ'] for title, one in halves.items()
                        if title.split()[-1] == name), default=0.0) for name in HALVES}
    found.figures = {'outputs': rows, 'halves': halves}
    found.summary = (f'{nearest["largest_difference"]:.1e} of {nearest["bound"]:.1e}, '
                     f'fp16 {100 * worst["float16"]:.2g} %, bf16 {100 * worst["bfloat16"]:.2g} %')


class EagerEngine(TorchEngine):
    """The engine without CUDA graphs."""

    def _captured(self, inputs):
        return self._run


def graphs(setting) -> Found:
    """Compare CUDA graphs with the same operations one by one, to the bit, for every network."""
    if setting.dry:
        dry.stand_in_for_graphs()
    found = Found()
    cards = [load_card(OWN_MODEL), *(
        replace(network_card(name, trial.sizes[0]),
                network_args=COMPACT.get(name, trial.variants[0]))
        for name, trial in TRIALS.items())]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        rows = [_compared(card, setting, found) for card in cards]
    found.faults += [str(one.message) for one in caught if 'CUDA graph' in str(one.message)]
    bits = sum(row['values_differing'] for row in rows)
    found.figures = {'graphs': rows}
    found.summary = (f'{sum(row["captured"] for row in rows)} of {len(rows)} networks captured, '
                     f'{bits} values differ')
    return found


def _compared(card, setting, found):
    engines = []
    for kind in (TorchEngine, EagerEngine):
        torch.manual_seed(0)  # the same random weights, where there are no others
        engines.append(kind(card, setting.device))
    captured, eager = engines
    captured._captures = True
    differing = unsteady = 0
    for frames in _sequence():
        ours, theirs, again = captured(*frames), eager(*frames), eager(*frames)
        differing += _differing(ours, theirs)
        unsteady += _differing(again, theirs)
    kinds = [one for one in captured._kinds.values() if one is not None]
    graphs_of = [one for one in kinds if isinstance(one, torch_engine.CudaGraph)]
    name = card.name
    row = {'network': name, 'captured': len(graphs_of), 'values_differing': differing,
           'values_of_eager_differing': unsteady}
    if len(graphs_of) < len(kinds) or not kinds:
        found.faults.append(f'{name} cannot be captured as a CUDA graph')
    # What is not the same twice without a graph cannot be the same with one.
    if differing > unsteady:
        found.faults.append(f'{name}: {differing} values differ between CUDA graph and eager, and '
                            f'{unsteady} between eager and itself')
    return row


def _sequence():
    """Yield frames as engines are called: kinds that come again, other sizes, a sensor lost."""
    rng = np.random.default_rng(0)

    def pair(height, x_type=np.uint8):
        top = 4000 if x_type == np.uint16 else 255
        return (rng.integers(0, 256, (height, 160, 3), np.uint8),
                rng.integers(0, top, (96, 120), x_type), (0.0, float(top)))
    first, second, other, wide = pair(120), pair(120), pair(90), pair(120, np.uint16)
    for frames, sensors in (
            (first, Sensors.BOTH), (first, Sensors.BOTH), (second, Sensors.BOTH),
            (other, Sensors.BOTH), (other, Sensors.BOTH), (first, Sensors.BOTH),
            (second, Sensors.RGB), (second, Sensors.X), (first, Sensors.BOTH),
            (wide, Sensors.BOTH), (wide, Sensors.BOTH)):
        yield *frames, sensors


def _differing(ours, theirs):
    return sum(int((one != other).sum()) for one, other in zip(ours, theirs, strict=True))
