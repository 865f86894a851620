# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Recipes: what `config/train/*.yaml` may say, checked, read and written."""

from dataclasses import asdict, dataclass, field, replace
import math
from pathlib import Path

from rgbx_seg_ros.cards.card import ENDINGS
from rgbx_seg_ros.datasets import DATASETS
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import check_number, from_mapping, read_yaml, unknown_name
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.training.augment import Augment
from rgbx_seg_ros.training.losses import Loss
import yaml

CHOICES = {
    'use': tuple(sensors.value for sensors in Sensors),
    'optimizer': ('adamw', 'sgd'),
    'no_decay': ('nothing', 'vectors', 'norms'),
    'schedule': ('cosine', 'poly', 'steps'),
    'decay_from': ('warmup', 'start'),
    'precision': ('float32', 'bfloat16', 'float16'),
}
_LOWEST = {
    'epochs': 1, 'steps_per_epoch': 1, 'batch_size': 1, 'accumulate': 1, 'workers': 0, 'seed': 0,
    'val_epochs': 1, 'save_steps': 1,
}
"""Of the fields that are whole numbers."""
_HIGHEST = {
    'learning_rate': 1, 'weight_decay': 1, 'epsilon': 1, 'momentum': 1, 'clip_norm': math.inf,
    'warmup_epochs': math.inf, 'warmup_start': 1, 'power': math.inf, 'milestone_factor': 1,
    'ema_decay': 1,
}
"""Of the others, which begin at 0."""


@dataclass(frozen=True)
class TrainConfig:
    """A recipe. It makes the same training whatever the number of processes that share it."""

    card: str
    """
    The model: the name of a card that comes with the package, or the path of one, from the folder
    of the recipe or from where the command runs.
    """
    augment: Augment
    """The random changes of a sample."""

    dataset: str = 'folder'
    """How the data are laid out: a name in `rgbx_seg_ros.datasets.DATASETS`."""
    split: str | None = None
    """The part of the data set to train on; None: the only one, or its first."""
    exclude: tuple[str, ...] = field(default_factory=tuple)
    """Names of frames that are not trained on, because a demo or a test shows them."""
    val_split: str | None = None
    """The part to score after epochs; None: none, and the last weights are kept, not the best."""
    val_epochs: int = 1
    """Epochs from one scoring to the next."""
    use: str = 'both'
    """
    both; rgb or x alone: the mean takes the place of the other, as if its sensor were lost, and
    `augment.blank` does not apply.
    """

    loss: Loss = field(default_factory=Loss)
    """What is minimised."""
    epochs: int = 100
    """How often all this is repeated: the steps of an epoch, a save, maybe a scoring."""
    steps_per_epoch: int | None = None
    """None: as many as make one pass over the data. More begin another pass in another order."""
    batch_size: int = 4
    """Samples per step, over all processes together."""
    accumulate: int = 1
    """Parts that each process works off its samples of a step in, to save memory."""

    optimizer: str = 'adamw'
    """adamw, or sgd with `momentum`."""
    learning_rate: float = 5e-4
    """Highest step size."""
    weight_decay: float = 0.05
    """Of the optimizer: for adamw the decoupled one, for sgd an L2 penalty."""
    no_decay: str = 'vectors'
    """
    Parameters without weight decay: nothing, vectors (biases and scales, by shape), or norms (by
    name, but for those of a head).
    """
    epsilon: float = 1e-8
    """Of adamw, added to the root of the second moment."""
    momentum: float = 0.9
    """Of sgd."""
    clip_norm: float | None = 5.0
    """The gradient is scaled down to this norm where it is longer; None: never."""

    schedule: str = 'cosine'
    """How the step size falls: cosine, poly (a power of what is left), or steps."""
    warmup_epochs: float = 2.0
    """Epochs in which the step size rises linearly."""
    warmup_start: float = 0.0
    """Share of the step size that the rise begins at."""
    decay_from: str = 'warmup'
    """Where cosine and poly begin to fall: at the end of the warm-up, or already at the start."""
    power: float = 0.9
    """Of poly."""
    milestones: tuple[float, ...] = ()
    """Epochs after each of which `steps` multiplies the step size by `milestone_factor`."""
    milestone_factor: float = 0.1
    """Of steps."""

    ema_decay: float = 0.998
    """The weights kept are an average over steps with this decay; 0: they are the last ones."""
    precision: str = 'float32'
    """Of the forward pass. float16 scales the loss so that small gradients survive."""
    sync_batch_norm: bool = False
    """Batch statistics over all processes (CUDA), as one process would have them."""
    seed: int = 0
    """Of the weights, of the order of samples, of their changes and of dropout."""
    workers: int = 1
    """Processes that load samples for each training process; 0: it does so itself."""
    save_steps: int | None = None
    """Steps between saves within an epoch; None: only its end is saved."""

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise DataError(f'{name} is {getattr(self, name)!r}, allowed are: '
                                f'{", ".join(allowed)}')
        if self.dataset not in DATASETS:
            raise DataError(f'dataset {unknown_name(self.dataset, DATASETS)}')
        limits = {name: {'low': low, 'integer': True} for name, low in _LOWEST.items()}
        limits |= {name: {'low': 0, 'high': high} for name, high in _HIGHEST.items()}
        for name, allowed in limits.items():
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), DataError, **allowed)
        for i, milestone in enumerate(self.milestones):
            check_number(f'milestones[{i}]', milestone, DataError, above=0)
        if (self.schedule == 'steps') != bool(self.milestones):
            raise DataError(f'milestones is {self.milestones!r} with schedule {self.schedule!r}: '
                            'steps needs them, the others take none')
        if any(later <= sooner for sooner, later in zip(
                (0, *self.milestones), self.milestones, strict=False)):
            raise DataError(f'milestones is {self.milestones!r}, needed are rising epochs above 0')

    @property
    def sensors(self) -> Sensors:
        """The sensors whose frames the network sees, as `use` says."""
        return Sensors(self.use)


def load_config(path) -> TrainConfig:
    """Read a recipe from a YAML file; raise DataError where it is not a valid one."""
    config = from_mapping(TrainConfig, read_yaml(Path(path), DataError), str(path), DataError)
    return from_anywhere(config, Path(path).parent)


def from_anywhere(config: TrainConfig, folder: Path = Path()) -> TrainConfig:
    """
    Return the recipe with the path of its card, if it is not a name, as an absolute one.

    It is one from `folder`, or from where the command runs.
    """
    if Path(config.card).suffix not in ENDINGS:
        return config
    beside = folder / config.card
    path = beside if beside.is_file() else Path(config.card)
    return replace(config, card=str(path.absolute()))


def plain(config: TrainConfig) -> dict:
    """Return the recipe with all its fields, made of what YAML and JSON know."""
    return _plain(asdict(config))


def config_text(config: TrainConfig) -> str:
    """Return the recipe as a YAML file that `load_config` reads back to the same."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
