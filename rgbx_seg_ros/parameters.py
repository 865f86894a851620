# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of nodes: a dataclass is the source of declaration, checks and table in docs."""

from array import array
from dataclasses import dataclass, field, fields
from pathlib import Path
import re
from typing import Any, ClassVar

from rgbx_seg_ros.cards.card import X_KINDS, X_NORMALIZATIONS
from rgbx_seg_ros.cards.labels import parse_groups
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.fields import check_number, read_yaml, unknown_name
from rgbx_seg_ros.health.monitor import HealthSettings, POLICIES
from rgbx_seg_ros.sync.pairing import PairingSettings

ROS_OWN = ('use_sim_time', 'start_type_description_service', 'qos_overrides')
"""What every node has besides its own, by the first part of the name."""

_NS_PER_MS = 1_000_000
_MIN_PERIOD_NS = 5 * _NS_PER_MS
"""No camera of this use delivers faster than 200 Hz; see PairingSettings."""


def parameter(name, default, doc, *, low=None, high=None, allowed=None, runtime=False):
    """Declare one parameter; `low` and `high` are allowed values, `allowed` lists all of them."""
    facts = {'name': name, 'doc': doc, 'low': low, 'high': high, 'allowed': allowed,
             'runtime': runtime}
    return field(default=default, metadata=facts)


_LARGEST_MASK = 16_384
_RELIABILITY = ('best_effort', 'reliable')


class ParameterSet:
    """
    What the parameters of every node can do.

    Those of one are a frozen dataclass whose fields `parameter` has made; the ROS name of each
    stands in the metadata.
    """

    NODE_NAME: ClassVar[str]
    """The name of the node, unless it is given another one."""

    def __post_init__(self):
        for spec in fields(self):
            object.__setattr__(self, spec.name, _checked(spec, getattr(self, spec.name)))

    @classmethod
    def from_ros(cls, values: dict):
        """
        Return the parameters from values by ROS name.

        Raise ParameterError for an unknown name, a bad value and values that exclude each other.
        """
        specs = cls.specs(values)
        return cls(**{specs[name].name: value for name, value in values.items()})

    @classmethod
    def check(cls, values: dict) -> None:
        """Raise ParameterError for an unknown name and for a value that is bad by itself."""
        specs = cls.specs(values)
        for name, value in values.items():
            _checked(specs[name], value)

    @classmethod
    def specs(cls, names=()) -> dict:
        """Return each field by its ROS name; raise ParameterError where one of `names` is none."""
        specs = {spec.metadata['name']: spec for spec in fields(cls)}
        for name in names:
            if name not in specs:
                raise ParameterError(f'parameter {unknown_name(name, specs)}')
        return specs

    def to_ros(self) -> dict:
        """Return the values by ROS name, as ROS takes them."""
        values = {spec.metadata['name']: getattr(self, spec.name) for spec in fields(self)}
        return {name: [*value] if isinstance(value, tuple) else value
                for name, value in values.items()}


def named(name, read, value):
    """Return what `read` makes of the value of a parameter; its ParameterError names that."""
    try:
        return read(value)
    except ParameterError as error:
        raise ParameterError(f'parameter {name!r} is {value!r}: {error}') from error


@dataclass(frozen=True)
class Parameters(ParameterSet):
    """Every parameter of the segmentation node."""

    NODE_NAME: ClassVar[str] = 'rgbx_seg'

    model: str = parameter(
        'model', 'msrs_scene',
        'Model card: the name of one in the package, or the path of a yaml file.')
    engine: str = parameter(
        'engine', 'torch',
        'What runs the network. torch: float32, on a GPU float16. torch_bf16: bfloat16. compiled, '
        'compiled_bf16: the same as code made for this CPU. onnx: ONNX Runtime. The last three '
        'take over from PyTorch as soon as they are ready.',
        allowed=('torch', 'torch_bf16', 'compiled', 'compiled_bf16', 'onnx'))
    device: str = parameter('device', 'auto', 'auto (a GPU where there is one), cpu, cuda:N.')
    autostart: bool = parameter(
        'autostart', True, 'Configure and activate at start, without a lifecycle manager.')
    rgb_transport: str = parameter(
        'rgb.transport', 'raw', 'raw: rgb/image. compressed: rgb/image/compressed.',
        allowed=('raw', 'compressed'))
    x_transport: str = parameter(
        'x.transport', 'raw',
        'raw: x/image. compressed: x/image/compressed. compressedDepth: '
        'x/image/compressedDepth.',
        allowed=('raw', 'compressed', 'compressedDepth'))
    x_smoothing_s: float = parameter(
        'x.smoothing_s', 5.0,
        'Time constant with which the range of X follows the scene, s; 0: frame by frame.',
        low=0.0, high=3600.0)
    x_kind: str = parameter(
        'x.kind', 'card',
        'What the second sensor measures; a model for another kind is refused. card: any.',
        allowed=('card', *X_KINDS))
    x_normalization: str = parameter(
        'x.normalization', 'card',
        "Which raw values of X become the network's 0 and 1. card: as the model card says.",
        allowed=('card', *X_NORMALIZATIONS))
    x_range: tuple[float, ...] = parameter(
        'x.range', (0.0, 0.0),
        'What becomes 0 and 1: raw values for fixed, degrees Celsius for celsius.')
    rgb_reliability: str = parameter(
        'rgb.reliability', 'best_effort', 'QoS of the RGB subscription.', allowed=_RELIABILITY)
    x_reliability: str = parameter(
        'x.reliability', 'best_effort', 'QoS of the X subscription.', allowed=_RELIABILITY)
    rgb_depth: int = parameter(
        'rgb.depth', 5, 'RGB messages that the middleware keeps for the node.', low=1, high=100)
    rgb_bits: int = parameter(
        'rgb.bits', 16,
        'Bits that count in the values of 16-bit colour: 10, 12 or 14 where a driver leaves the '
        'upper ones empty.', low=8, high=16, runtime=True)
    x_depth: int = parameter(
        'x.depth', 5, 'X messages that the middleware keeps for the node.', low=1, high=100)
    sync_policy: str = parameter(
        'sync.policy', 'nearest',
        'How pairs are found. nearest: closest in time. approximate, exact: those of '
        'message_filters.', allowed=('nearest', 'approximate', 'exact'))
    slop_ms: float = parameter(
        'sync.slop_ms', 50.0, 'Longest time between the two frames of a pair, ms.',
        low=0.0, high=10_000.0, runtime=True)
    max_wait_ms: float = parameter(
        'sync.max_wait_ms', 100.0,
        'Longest wait of an RGB frame for a better partner, ms.',
        low=0.0, high=10_000.0, runtime=True)
    x_offset_ms: float = parameter(
        'sync.x_offset_ms', 0.0,
        'Added to the stamps of X before they are compared, ms.',
        low=-10_000.0, high=10_000.0, runtime=True)
    registration_mode: str = parameter(
        'registration.mode', 'none',
        'How X is brought onto RGB. none: both show the same view. homography: by nine numbers. '
        'extrinsics: by both camera_info and the transform.',
        allowed=('none', 'homography', 'extrinsics'))
    registration_homography: tuple[float, ...] = parameter(
        'registration.homography', (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        'Matrix from pixels of X to pixels of RGB, row by row.')
    registration_x_size: tuple[float, ...] = parameter(
        'registration.x_size', (640.0, 480.0),
        'Width and height of X that the homography is for, px.')
    registration_rgb_size: tuple[float, ...] = parameter(
        'registration.rgb_size', (640.0, 480.0),
        'Width and height of RGB that the homography is for, px.')
    registration_translation: tuple[float, ...] = parameter(
        'registration.translation', (0.0, 0.0, 0.0),
        'Where the X camera sits in the optical frame of RGB: x, y, z, m.')
    registration_rotation: tuple[float, ...] = parameter(
        'registration.rotation', (0.0, 0.0, 0.0, 1.0),
        'How the X camera is turned in that frame: quaternion x, y, z, w.')
    registration_depth_m: float = parameter(
        'registration.depth_m', 50.0,
        'Distance at which X lies exactly on RGB with extrinsics, m.', low=0.05, high=10_000.0)
    registration_rectified: bool = parameter(
        'registration.rectified', False,
        'Both images are rectified ones (image_rect): R and P of camera_info count, not K and D.')
    degraded_policy: str = parameter(
        'degraded.policy', 'wait',
        'While a sensor has failed: publish nothing, go on with the one named, or empty masks.',
        allowed=POLICIES, runtime=True)
    degraded_confidence: float = parameter(
        'degraded.confidence', 0.5,
        'Factor of the published confidence while one sensor works alone; '
        'confidence.threshold comes before.', low=0.0, high=1.0, runtime=True)
    health_late_ms: float = parameter(
        'health.late_ms', 200.0, 'Silence after which a sensor is late, ms.',
        low=1.0, high=600_000.0, runtime=True)
    health_dead_ms: float = parameter(
        'health.dead_ms', 1500.0,
        'Silence after which a sensor has failed, ms; health.late_ms or more.',
        low=1.0, high=600_000.0, runtime=True)
    health_frozen_ms: float = parameter(
        'health.frozen_ms', 2000.0,
        'Time of the same pixels under new stamps after which a sensor has failed, ms; 0: never, '
        'for simulated cameras without noise.', low=0.0, high=600_000.0, runtime=True)
    health_saturated_share: float = parameter(
        'health.saturated_share', 0.98,
        'Share of pixels of one value or at a limit above which a sensor has failed; 1: never, '
        'for simulated scenes of one value.',
        low=0.5, high=1.0, runtime=True)
    health_recovery_ms: float = parameter(
        'health.recovery_ms', 1000.0,
        'Time for which a sensor that has failed must be good before it is used again, ms.',
        low=0.0, high=600_000.0, runtime=True)
    max_age_ms: float = parameter(
        'max_age_ms', 2000.0,
        'Age of the frame beyond which its mask is no longer published, ms.',
        low=1.0, high=600_000.0, runtime=True)
    confidence_threshold: float = parameter(
        'confidence.threshold', 0.0,
        'Pixels of which the network is less sure become 255, unlabeled.',
        low=0.0, high=1.0, runtime=True)
    classes_groups: str = parameter(
        'classes.groups', '',
        'Groups of classes beside those of the card, or in their place: name=class, class; '
        'name=class.')
    binary_group: str = parameter(
        'binary.group', '',
        'Group whose pixels are 255 in segmentation/binary; empty: no such topic.')
    mask_size: str = parameter(
        'mask.size', 'native',
        'Size of mask, confidence, binary and camera_info. native: that of the camera. x: that of '
        'the frames of X. Else width and height, px, as in 320 240.')
    label_encoding: str = parameter(
        'label_encoding', 'mono8', 'Encoding of segmentation/mask.',
        allowed=('mono8', '8UC1', '16UC1', '16SC1', '32SC1'))
    overlay_alpha: float = parameter(
        'overlay.alpha', 0.5, 'Share of the class colours in segmentation/overlay.',
        low=0.0, high=1.0, runtime=True)
    overlay_max_rate_hz: float = parameter(
        'overlay.max_rate_hz', 30.0,
        'Most overlays, colour and fused images in a second.', low=1.0, high=1000.0, runtime=True)
    record_folder: str = parameter(
        'record.folder', '',
        'Folder for recordings of what came before and after an event; empty: none are made.')
    record_events: str = parameter(
        'record.events', 'sensor_failed',
        'What is recorded besides calls of ~/snapshot: a sensor that fails, a mean confidence '
        'that falls below record.min_confidence, sensors that differ on more than '
        'record.max_disagreement.',
        allowed=('sensor_failed', 'low_confidence', 'disagreement', 'all', 'none'), runtime=True)
    record_min_confidence: float = parameter(
        'record.min_confidence', 0.5, 'Mean confidence of a mask of both sensors below which '
        'low_confidence is an event.', low=0.0, high=1.0, runtime=True)
    record_max_disagreement: float = parameter(
        'record.max_disagreement', 0.4, 'Share of the pixels to which RGB alone and X alone give '
        'other classes above which disagreement is an event.', low=0.0, high=1.0, runtime=True)
    record_duration_s: float = parameter(
        'record.duration_s', 10.0, 'Time before an event that is recorded, s.',
        low=0.0, high=600.0, runtime=True)
    record_duration_after_s: float = parameter(
        'record.duration_after_s', 5.0, 'Time after an event that is recorded, s.',
        low=0.0, high=600.0, runtime=True)
    record_cooldown_s: float = parameter(
        'record.cooldown_s', 60.0,
        'Time after a recording in which events are counted and not recorded, s.',
        low=0.0, high=86_400.0, runtime=True)
    record_max_ring_mb: int = parameter(
        'record.max_ring_mb', 500,
        'Most memory for messages; with less than record.duration_s needs, that is cut short.',
        low=1, high=65_536, runtime=True)
    record_max_total_mb: int = parameter(
        'record.max_total_mb', 10_000,
        'Size of the recordings in record.folder from which on no more are made.',
        low=1, high=100_000_000, runtime=True)
    tune_allocator: bool = parameter(
        'tune_allocator', True,
        'Keep freed image buffers in the process instead of returning them (glibc only).')

    def __post_init__(self):
        super().__post_init__()
        if self.health_dead_ms < self.health_late_ms:
            raise ParameterError(
                f"parameter 'health.dead_ms' is {self.health_dead_ms!r}, allowed is "
                f"{self.health_late_ms!r}, the value of 'health.late_ms', or more")
        named('classes.groups', parse_groups, self.classes_groups)
        named('mask.size', parse_size, self.mask_size)

    @property
    def x_input(self) -> dict[str, Any]:
        """What of the card's second input they replace."""
        span = self.x_range if any(self.x_range) else None
        if self.x_normalization != 'card':
            return {'normalization': self.x_normalization, 'range': span}
        return {'range': span} if span else {}

    @property
    def pairing(self) -> PairingSettings:
        """What of them decides about pairs."""
        return PairingSettings(
            slop_ns=round(self.slop_ms * _NS_PER_MS),
            max_wait_ns=round(self.max_wait_ms * _NS_PER_MS),
            x_offset_ns=round(self.x_offset_ms * _NS_PER_MS),
            rgb_min_period_ns=_MIN_PERIOD_NS, x_min_period_ns=_MIN_PERIOD_NS, learn_periods=True)

    @property
    def health(self) -> HealthSettings:
        """What of them decides when a sensor has failed."""
        return HealthSettings(
            policy=self.degraded_policy, late_ms=self.health_late_ms,
            dead_ms=self.health_dead_ms, frozen_ms=self.health_frozen_ms,
            saturated_share=self.health_saturated_share, recovery_ms=self.health_recovery_ms)


def parse_size(text: str) -> tuple[int, int] | None:
    """
    Return the width and height that `mask.size` names; None for native, and (0, 0) for x.

    Raise ParameterError for another text.
    """
    if text in ('native', 'x'):
        return None if text == 'native' else (0, 0)
    numbers = re.fullmatch(r'(\d{1,5})[ x](\d{1,5})', text.strip())
    size = tuple(map(int, numbers.groups())) if numbers else (0, 0)
    if not all(1 <= side <= _LARGEST_MASK for side in size):
        raise ParameterError('allowed are native, x, and width and height in pixels, each 1 to '
                             f'{_LARGEST_MASK}, as in 320 240')
    return size


def _checked(spec, value):
    """Return `value` as the type of its default, or raise ParameterError."""
    facts, kind = spec.metadata, type(spec.default)
    name = f'parameter {facts["name"]!r}'
    if kind in (int, float):
        check_number(name, value, ParameterError, low=facts['low'], high=facts['high'],
                     integer=kind is int)
        return kind(value)
    if kind is tuple:
        # ROS gives an array, YAML a list.
        if not isinstance(value, (list, tuple, array)) or len(value) != len(spec.default):
            raise ParameterError(f'{name} is {value!r}, needed are {len(spec.default)} numbers')
        for i, number in enumerate(value):
            check_number(f'{name}[{i}]', number, ParameterError)
        return tuple(map(float, value))
    if type(value) is not kind:
        raise ParameterError(f'{name} is {value!r}, needed is a value of type {kind.__name__}')
    if facts['allowed'] and value not in facts['allowed']:
        raise ParameterError(f'{name} is {value!r}, allowed are: {", ".join(facts["allowed"])}')
    return value


DEFAULTS = Parameters()


def read_parameters(path: Path, kind: type[ParameterSet] = Parameters) -> dict:
    """
    Return the values by ROS name that a parameter file of ROS 2 has for the node of `kind`.

    They stand under /** or another wildcard, or under the name of the node in any namespace; the
    last one counts. What other nodes are told is passed over, and what every node has. Raise
    ParameterError for a file without values for the node or with those of several, for an unknown
    name and for a value that is bad by itself.
    """
    sections = list(_sections(read_yaml(path, ParameterError), ''))
    own = [(name, content) for name, content in sections
           if name.rpartition('/')[2] in ('*', '**', kind.NODE_NAME)]
    if not own:
        held = ', '.join(repr(name) for name, _ in sections) or 'nothing'
        name = kind.NODE_NAME
        raise ParameterError(f"{str(path)!r} has no parameters for '/**' or {name!r}, each with "
                             f"'ros__parameters' below; it has some for {held}")
    nodes = sorted({name for name, _ in own if '*' not in name})
    if len(nodes) > 1:
        raise ParameterError(f'{str(path)!r} has parameters for several nodes, '
                             f'{", ".join(map(repr, nodes))}: leave those of one')
    values = {}
    try:
        for _, content in own:
            values.update(_leaves(content, ''))
        values = {name: value for name, value in values.items()
                  if name.partition('.')[0] not in ROS_OWN}
        kind.check(values)
    except ParameterError as error:
        raise ParameterError(f'{str(path)!r}: {error}') from error
    return values


def _sections(content, prefix):
    """Yield the full name and the parameters of each node; namespaces may be nested."""
    for key, value in content.items():
        name = f'{prefix}/{str(key).strip("/")}'
        if isinstance(value, dict) and 'ros__parameters' in value:
            yield name, value['ros__parameters']
        elif isinstance(value, dict):
            yield from _sections(value, name)


def _leaves(content, prefix):
    """Yield names with dots and their values."""
    if not isinstance(content, dict):
        raise ParameterError(f"'ros__parameters' is {content!r}, needed are names with values")
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', _as_ros_reads(value)


def _as_ros_reads(value):
    """Return 1e-3, which is text to YAML 1.1, as the number that it is to ROS."""
    if isinstance(value, list):
        return list(map(_as_ros_reads, value))
    is_number = isinstance(value, str) and re.fullmatch(r'[-+]?\d+(\.\d*)?[eE][-+]?\d+', value)
    return float(value) if is_number else value


def markdown_table(kind: type[ParameterSet] = Parameters) -> str:
    """Return the table of parameters for docs."""
    rows = ['| parameter | default | allowed | at run time | meaning |',
            '| --- | --- | --- | --- | --- |']
    for spec in fields(kind):
        facts = spec.metadata
        allowed = ', '.join(facts['allowed'] or ())
        if facts['low'] is not None:
            allowed = f'{facts["low"]:g} .. {facts["high"]:g}'
        default = spec.default
        if isinstance(default, bool):
            default = str(default).lower()
        elif isinstance(default, tuple):
            default = ' '.join(f'{value:g}' for value in default)
        runtime = 'yes' if facts['runtime'] else ''
        rows.append(f'| `{facts["name"]}` | {default} | {allowed} | {runtime} | {facts["doc"]} |')
    return '\n'.join(rows)
