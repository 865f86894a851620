# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Model cards: all that is needed to run a network on raw frames, and what its user must know.

A card is a YAML file in `models/` or anywhere else. Its weights lie in the same folder, or, as
those of published checkpoints do that a user has imported, in `user_models_dir()`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
import math
import os
from pathlib import Path
import re
import shlex

from rgbx_seg_ros.cards.labels import LabelClass, LabelSet
from rgbx_seg_ros.errors import CardError, RgbxSegError, WeightsError
from rgbx_seg_ros.fields import from_mapping, read_yaml, unknown_name
from rgbx_seg_ros.files import visible
from rgbx_seg_ros.resources import share_dir

X_KINDS = ('thermal', 'depth', 'polarization', 'dsm')
X_NORMALIZATIONS = ('auto', 'fixed', 'celsius', 'minmax', 'percentile')
ONNX_PROVIDERS = ('TensorRT', 'CUDA', 'CPU')
ENDINGS = ('.yaml', '.yml')
"""Of the file of a card."""
_SPDX = re.compile(r'[A-Za-z0-9.-]+\+?( (AND|OR|WITH) [A-Za-z0-9.-]+\+?)*')


def _check_mean_std(where: str, mean: Sequence[float], std: Sequence[float]) -> None:
    if not all(map(math.isfinite, mean)) or not all(0 < s < math.inf for s in std):
        raise CardError(f'{where}: mean {mean!r} and std {std!r} must be finite, std above 0')


@dataclass(frozen=True)
class RgbInput:
    """How a colour frame becomes the network's input: (value / 255 - mean) / std."""

    mean: tuple[float, float, float]
    """Mean of each channel, in the network's channel order, on the scale 0..1."""
    std: tuple[float, float, float]
    """Standard deviation of each channel, likewise."""
    channel_order: str = 'rgb'
    """Order in which the network takes the channels: rgb or bgr."""

    def __post_init__(self) -> None:
        if self.channel_order not in ('rgb', 'bgr'):
            raise CardError(f'rgb.channel_order is {self.channel_order!r}, allowed are: rgb, bgr')
        _check_mean_std('rgb', self.mean, self.std)


@dataclass(frozen=True)
class XInput:
    """How a frame of the second modality becomes the network's input."""

    kind: str
    """What the sensor measures: thermal, depth, polarization or dsm."""
    mean: tuple[float, ...]
    """Mean of each of the network's one or three channels on the scale 0..1."""
    std: tuple[float, ...]
    """Standard deviation of each channel, likewise."""
    normalization: str = 'auto'
    """
    Which raw values become 0 and 1. fixed, celsius: `range`. minmax, percentile: of each frame's
    valid pixels. auto: 0..255 for 8-bit frames, percentile for wider ones.
    """
    range: tuple[float, float] | None = None  # noqa: A003
    """What becomes 0 and 1: raw values for `fixed`, degrees Celsius for `celsius`."""
    celsius_per_count: float = 0.01
    """
    For `celsius`: degrees that one count of a 16-bit frame stands for. Float frames hold degrees
    Celsius themselves, whatever these two fields say.
    """
    celsius_at_zero: float = -273.15
    """For `celsius`: temperature of the raw value 0. -273.15 is a sensor that counts kelvin."""
    percentiles: tuple[float, float] = (1.0, 99.0)
    """Percentiles of the valid pixels that become 0 and 1, for `percentile` and `auto`."""
    invalid: float | None = None
    """Raw value that means no measurement. NaN and infinity always do."""

    def __post_init__(self) -> None:
        if self.kind not in X_KINDS:
            raise CardError(f'x.kind: {unknown_name(self.kind, X_KINDS)}')
        if self.normalization not in X_NORMALIZATIONS:
            raise CardError(
                f'x.normalization: {unknown_name(self.normalization, X_NORMALIZATIONS)}')
        if (self.normalization in ('fixed', 'celsius')) != (self.range is not None):
            raise CardError(
                f'x.range is {self.range!r} with x.normalization {self.normalization!r}: '
                'fixed and celsius need a range [low, high], the others take none')
        if self.normalization == 'celsius' and self.kind != 'thermal':
            raise CardError(f"x.normalization is 'celsius' with x.kind {self.kind!r}: only "
                            'thermal frames hold temperatures, use fixed')
        if not 0 < self.celsius_per_count < math.inf or not math.isfinite(self.celsius_at_zero):
            raise CardError(
                f'x.celsius_per_count is {self.celsius_per_count!r} and x.celsius_at_zero '
                f'{self.celsius_at_zero!r}: both must be finite, the first one above 0')
        if self.range is not None and not -math.inf < self.range[0] < self.range[1] < math.inf:
            raise CardError(f'x.range is {self.range!r}: low must be below high, both finite')
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise CardError(f'x.percentiles is {self.percentiles!r}: needed is 0 <= low < high '
                            '<= 100')
        if len(self.mean) not in (1, 3) or len(self.mean) != len(self.std):
            raise CardError(
                f'x has {len(self.mean)} values of mean and {len(self.std)} of std: needed are '
                "1 or 3 of both, one for each channel of the network's second input")
        _check_mean_std('x', self.mean, self.std)


@dataclass(frozen=True)
class Window:
    """How a network that sees a small square slides over a large image."""

    size: int
    """Side of the square, in pixels, a multiple of 32."""
    stride: int
    """Pixels from one square to the next, at most `size`."""

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 32:
            raise CardError(f'window.size is {self.size!r}, it must be a multiple of 32')
        if not 1 <= self.stride <= self.size:
            raise CardError(f'window.stride is {self.stride!r}, allowed are 1..{self.size}, the '
                            'size: a larger one would leave gaps')


def _check_file(name: str, file: str) -> None:
    """Raise CardError unless `file` names one below the folder of the card."""
    path = Path(file)
    if path.is_absolute() or '..' in path.parts or not file:
        raise CardError(f"{name} is {file!r}: it must stay in the card's folder")


@dataclass(frozen=True)
class Weights:
    """A safetensors file, with what one must know before using it."""

    file: str
    """File name, in the folder of the card or in that of the user."""
    sha256: str | None = None
    """Checksum of the file; where given, a file that differs is refused."""
    license: str | None = None  # noqa: A003
    """
    Terms of the file as an SPDX licence expression; None: they are not stated.

    What SPDX has no name for begins with LicenseRef-; `licenses` of the card tells it in words.
    """

    def __post_init__(self) -> None:
        _check_file('weights.file', self.file)
        if self.license is not None and not _SPDX.fullmatch(self.license):
            raise CardError(f'weights.license is {self.license!r}: needed is an SPDX licence '
                            'expression such as Apache-2.0, or LicenseRef- and a name of yours; '
                            'words about it belong to licenses.weights')
        if self.sha256 is not None and not re.fullmatch('[0-9a-f]{64}', self.sha256):
            raise CardError(f'weights.sha256 is {self.sha256!r}: needed are 64 digits 0-9a-f')


@dataclass(frozen=True)
class Onnx:
    """How the engine `onnx` runs the model, where it is not to find out by itself."""

    file: str | None = None
    """Name of an ONNX file that `rgbx-seg export` has written, in the folder of the card."""
    providers: tuple[str, ...] | None = None
    """Names of ONNX_PROVIDERS in the order in which they are tried."""

    def __post_init__(self) -> None:
        names = ', '.join(ONNX_PROVIDERS)
        if self.file is None and self.providers is None:
            raise CardError('onnx is empty: needed is file, the name of a file that rgbx-seg '
                            f'export has written, or providers, a list of {names}, or both')
        if self.file is not None:
            _check_file('onnx.file', self.file)
        if self.providers is None:
            return
        for name in self.providers:
            if name not in ONNX_PROVIDERS:
                raise CardError(f'onnx.providers: {unknown_name(name, ONNX_PROVIDERS)}')
        if not self.providers or len(set(self.providers)) < len(self.providers):
            raise CardError(f'onnx.providers is {list(self.providers)!r}: needed is at least one '
                            f'of {names}, each of them once')


@dataclass(frozen=True)
class PublishedScore:
    """Figures that the authors of a network state. Nothing here was measured with this package."""

    figures: dict
    """Name of a figure: its value in percent."""
    source: str
    """Where they stand: README or paper, of which year."""
    protocol: str
    """How they came about, and what keeps them from being compared with others."""

    def __post_init__(self) -> None:
        for name, value in self.figures.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= 100:
                raise CardError(f'published figure {name!r} is {value!r}: needed is a number of '
                                'percent, 0..100')
        if not self.figures or not self.source.strip() or not self.protocol.strip():
            raise CardError('a published score needs figures, a source and a protocol, given is '
                            f'{self!r}')


@dataclass(frozen=True)
class Published:
    """What the authors of a network have published for one data set."""

    dataset: str
    """Name of the data set that the authors trained on."""
    origin: str
    """The authors' paper and repository, with the commit that is meant."""
    source: str | None = None
    """Where the authors offer their checkpoint. None: they have published none."""
    file: str | None = None
    """Name of the checkpoint's file there, where it is known."""
    scores: tuple[PublishedScore, ...] = ()
    """What they report."""

    def __post_init__(self) -> None:
        if self.file is not None and self.source is None:
            raise CardError(f'published.file is {self.file!r} without published.source: say where '
                            'the file is offered, or leave it out')


@dataclass(frozen=True)
class Card:
    """A model: network, inputs, classes, weights, and the facts that its user must know."""

    name: str
    """Name of the model, the same as that of its file."""
    description: str
    """What it sees, what it was trained on, what it must not be used for."""
    network: str
    """Name in `rgbx_seg_ros.networks.NETWORKS`."""
    classes: tuple[LabelClass, ...]
    """The classes in the order of their ids."""
    input_size: tuple[int, int]
    """Height and width, in pixels and multiples of 32, at which the network runs."""
    rgb: RgbInput
    """How a colour frame becomes the network's first input."""
    x: XInput
    """How a frame of the second modality becomes the second one."""
    groups: dict = field(default_factory=dict)
    """
    Name of a group: list of the names of its classes, for consumers that want no single ones.

    A class may be in several groups or in none. What a vehicle can drive on is `drivable`, what
    moves by itself `dynamic`, what else stands in its way `obstacle`.
    """
    network_args: dict = field(default_factory=dict)
    """Further arguments of the network's constructor."""
    window: Window | None = None
    """None: the network sees the whole frame at once."""
    weights: Weights | None = None
    """None: the network runs with random weights, for timing only."""
    onnx: Onnx | None = None
    """None: the engine `onnx` makes its files itself, and takes the fastest provider."""
    licenses: dict = field(default_factory=dict)
    """Terms of code, weights and data."""
    scores: dict = field(default_factory=dict)
    """Results measured with this package: test set and protocol, then figures."""
    published: Published | None = None
    """What others state of the same network and data set."""
    training: str = ''
    """How the weights were made."""
    golden: str | None = None
    """File with a pair and the mask that the model makes of it, for `self_test`; None: no test."""
    folder: Path = field(default=Path(), metadata={'in_file': False})
    """Where the card was read from."""
    ending: str = field(default='.yaml', metadata={'in_file': False})
    """That of its file."""

    def __post_init__(self) -> None:
        if not self.name or self.name != Path(self.name).name:
            raise CardError(f'name is {self.name!r}: it must serve as the name of a file')
        if min(self.input_size) < 32 or any(side % 32 for side in self.input_size):
            raise CardError(f'card {self.name!r}: input_size is {list(self.input_size)!r}, both '
                            'sides must be multiples of 32, the coarsest stride of the networks')
        if self.window and set(self.input_size) != {self.window.size}:
            raise CardError(f'card {self.name!r}: input_size is {list(self.input_size)!r} with a '
                            f'window of {self.window.size}: both sides must be that of the window')
        if self.golden is not None:
            _check_file('golden', self.golden)
        self.labels  # noqa: B018 whose check must come now

    @cached_property
    def labels(self) -> LabelSet:
        """The classes as a LabelSet, with their groups."""
        return LabelSet(self.classes, self.groups)

    @property
    def path(self) -> Path:
        """The file that the card was read from."""
        return self.folder / f'{self.name}{self.ending}'

    @property
    def weights_path(self) -> Path | None:
        """
        Path of the weights file, which may not exist; None for a card without weights.

        The file beside the card comes first, then the one that a user has imported.
        """
        if self.weights is None:
            return None
        beside = self.folder / self.weights.file
        imported = user_models_dir() / self.weights.file
        return imported if imported.is_file() and not beside.is_file() else beside

    @property
    def import_path(self) -> Path | None:
        """
        Path where imported weights belong; None for a card without weights.

        For the package's cards it is in the user's folder: that of the package may be read-only,
        and a new build of it must not take a checkpoint away that was downloaded by hand.
        """
        if self.weights is None:
            return None
        return (user_models_dir() if self._is_shipped else self.folder) / self.weights.file

    @property
    def import_command(self) -> list[str]:
        """The command that imports a checkpoint of the authors for this card, word by word."""
        name = self.name if self._is_shipped else str(self.path)
        file = self.published and self.published.file
        return ['rgbx-seg', 'import-weights', file or 'CHECKPOINT.pth', '--card', name,
                '-o', str(self.import_path)]

    def find_weights(self) -> Path | None:
        """Return `weights_path`; raise WeightsError, which says where to get it, if it is not."""
        path = self.weights_path
        if path is None or path.exists():
            return path
        if self.published is None:
            raise WeightsError(f'weights file {str(path)!r} of card {self.name!r} does not exist: '
                               'put it there')
        problem = f'card {self.name!r} has no weights on disk'
        command = shlex.join(self.import_command)
        if self.published.source is None:
            raise WeightsError(
                f'{problem}, and the authors of its network have published none: train it with '
                f'rgbx-seg train, or import a checkpoint that you have: {command}')
        raise WeightsError(
            f'{problem}: get the checkpoint where the authors of its network offer it '
            f'({" ".join(self.published.source.split())}), then run: {command}')

    @property
    def _is_shipped(self) -> bool:
        return self.folder.resolve() == models_dir().resolve()


def models_dir() -> Path:
    """Return the folder of the cards that come with the package."""
    return share_dir() / 'models'


def user_models_dir() -> Path:
    """
    Return the folder of the weights that this user has imported; it may not exist.

    It is $RGBX_SEG_MODELS, or else rgbx_seg_ros/models in $XDG_DATA_HOME or ~/.local/share.
    """
    if chosen := os.environ.get('RGBX_SEG_MODELS'):
        return Path(os.path.expanduser(chosen))
    data = os.environ.get('XDG_DATA_HOME', '')
    if not os.path.isabs(data):  # The XDG specification wants others ignored.
        data = os.path.expanduser('~/.local/share')
    return Path(data, 'rgbx_seg_ros', 'models')


def list_cards() -> list[str]:
    """Return the names of the cards that come with the package."""
    return [path.stem for path in visible(models_dir()) if path.suffix == '.yaml']


def load_card(path_or_name: str | Path) -> Card:
    """
    Read a card: a path to a YAML file, or the name of one that comes with the package.

    Raise CardError if there is no such card, or if it is not a valid one.
    """
    path = Path(path_or_name)
    if path.suffix not in ENDINGS:
        names = list_cards()
        if str(path_or_name) not in names:
            raise CardError(
                f'model {unknown_name(str(path_or_name), names)}; or give the path of a card, '
                'a .yaml file')
        path = models_dir() / f'{path_or_name}.yaml'
    content = read_yaml(path, CardError)
    try:
        card = from_mapping(Card, content, 'card', CardError)
        if card.name != path.stem:
            raise CardError(f'name is {card.name!r}, needed is that of the file, {path.stem!r}: '
                            'change one of the two')
        return replace(card, folder=path.parent, ending=path.suffix)
    except RgbxSegError as error:
        raise CardError(f'{str(path)!r}: {error}') from error
