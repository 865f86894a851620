# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg benchmark`: what the networks cost, side by side in one run.

The networks take turns, so that a machine that is busy for a while is so for all of them.
"""

from dataclasses import dataclass
import statistics
import time

from rgbx_seg_ros.engines.torch_engine import find_device
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.networks import build, NETWORKS
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

NUM_CLASSES = 9
"""Of MFNet and MSRS; the class count hardly matters to the cost."""


@dataclass(frozen=True)
class Cost:
    """What a network costs at one input size."""

    network: str
    """Its name."""
    parameters: int
    """How many it has; all of them are used in a forward pass."""
    macs: int
    """Multiply-adds of convolutions and matrix products, attention among them."""
    seconds: tuple[float, ...]
    """Time of each forward pass, batch 1."""


def measure(names, size: tuple[int, int], device: str = 'auto', rounds: int = 3) -> list[Cost]:
    """
    Run the networks `names` in turns on random input of `size` (H, W) and return their costs.

    The networks have their published arguments and random weights. A first round is not counted.
    Raise FrameError for a size that a network does not take.
    """
    device = find_device(device)
    macs = {name: count_macs(name, size) for name in names}
    networks = {name: build(name, NUM_CLASSES).eval().to(device) for name in names}
    inputs = {name: [torch.randn(1, channels, *size, device=device)
                     for channels in (3, network.X_CHANNELS)]
              for name, network in networks.items()}
    seconds = {name: [] for name in names}
    with torch.inference_mode(), tqdm(total=(rounds + 1) * len(names), unit='pass', leave=False,
                                      disable=None) as progress:
        for _ in range(rounds + 1):
            for name, network in networks.items():
                seconds[name].append(_timed(network, inputs[name], device))
                progress.update()
    return [Cost(name, sum(p.numel() for p in network.parameters()), macs[name],
                 tuple(seconds[name][1:])) for name, network in networks.items()]


def count_macs(name: str, size: tuple[int, int]) -> int:
    """Return the multiply-adds of a network at `size` (H, W), as `Cost` has them."""
    # Without numbers attention is made of its two products: the fused one is not counted.
    with torch.device('meta'), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network = build(name, NUM_CLASSES).eval()
        network(*(torch.empty(1, channels, *size) for channels in (3, network.X_CHANNELS)))
    return counter.get_total_flops() // 2


def _timed(network, inputs, device):
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    network(*inputs)
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def table(costs: list[Cost]) -> str:
    """Return the costs as a table in markdown; the last column compares with the first row."""
    rows = ['| network | parameters, M | GMAC | median, s | ms / GMAC | relative |',
            '| --- | ---: | ---: | ---: | ---: | ---: |']
    per_gmac = [1e12 * statistics.median(cost.seconds) / cost.macs for cost in costs]
    for cost, each in zip(costs, per_gmac, strict=True):
        rows.append(f'| {cost.network} | {cost.parameters / 1e6:.2f} | {cost.macs / 1e9:.1f} | '
                    f'{statistics.median(cost.seconds):.3g} | {each:.1f} | '
                    f'{each / per_gmac[0]:.2f} |')
    return '\n'.join(rows)


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('networks', nargs='*', metavar='NETWORK', default=[*NETWORKS],
                        help=f'networks to run (default: {" ".join(NETWORKS)})')
    parser.add_argument('--size', nargs=2, type=int, default=(480, 640), metavar=('H', 'W'),
                        help='size of the input in pixels (default: 480 640)')
    parser.add_argument('--rounds', type=int, default=3, metavar='N',
                        help='forward passes of each network that count (default: 3)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')


def main(args):
    """Run the command."""
    if args.rounds < 1:
        raise ParameterError(f'rounds is {args.rounds!r}, needed is at least 1')
    costs = measure(args.networks, tuple(args.size), args.device, args.rounds)
    print(f'PyTorch {torch.__version__}, {find_device(args.device)}, '
          f'{torch.get_num_threads()} threads, float32, {args.size[1]}x{args.size[0]} pixels, '
          f'{args.rounds} rounds')
    print(table(costs))
