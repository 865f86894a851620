# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What training minimises: losses on the outputs of a network, as a recipe weighs them.

Where N processes train together, sums over pixels are taken over all of them (`across`), so that
the gradients are those of one process with the whole batch. The Lovász loss alone sorts the pixels
of each process by itself. Every process must therefore take the same steps.
"""

from dataclasses import dataclass, fields, replace

from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import check_number
from rgbx_seg_ros.networks.base import Network
from rgbx_seg_ros.networks.layers import at_least_float32, without_autocast
from rgbx_seg_ros.networks.training import TrainingOutputs
import torch
from torch import distributed, nn
from torch.nn import functional as F

_SOBEL = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
_KINDS = ('cross_entropy', 'dice', 'focal', 'boundary', 'lovasz')
_EXTRA = ('fusion', 'synergy')


@dataclass(frozen=True)
class Terms:
    """Weights of the losses on one map of logits; a weight of 0 leaves one out."""

    cross_entropy: float = 1.0
    """Of the cross-entropy, the mean over labelled pixels."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class in the cross-entropy, whose mean they also weigh; None: all alike."""
    label_smoothing: float = 0.0
    """Share of the target of the cross-entropy that is spread evenly over all classes."""
    over_all_pixels: bool = False
    """Whether unlabeled pixels count in the mean of the cross-entropy, as zeros."""
    dice: float = 0.0
    """Of the Dice loss, the mean over classes."""
    focal: float = 0.0
    """Of the focal loss (Lin et al., ICCV 2017), the mean over labelled pixels."""
    focal_gamma: float = 2.0
    """Exponent by which the focal loss plays down pixels that are right already."""
    focal_alpha: tuple[float, ...] | None = None
    """Weight of each class in the focal loss; None: 1."""
    boundary: float = 0.0
    """Of the cross-entropy that is raised where classes meet, the mean over labelled pixels."""
    boundary_gain: float = 1.5
    """What each class that has a boundary at a pixel adds to its weight of 1."""
    lovasz: float = 0.0
    """Of the Lovász-softmax loss (Berman et al., CVPR 2018), the mean over classes present."""

    def __post_init__(self):
        _require_within(self, _KINDS)
        if not any(getattr(self, kind) for kind in _KINDS):
            raise DataError(f'loss: all of {", ".join(_KINDS)} are 0, there is nothing to learn')
        if not 0 <= self.label_smoothing < 1:
            raise DataError(f'loss: label_smoothing is {self.label_smoothing!r}, needed is at '
                            'least 0 and below 1')
        _require_within(self, ('focal_gamma',), low=1)
        _require_within(self, ('boundary_gain',))
        for name in ('class_weights', 'focal_alpha'):
            for i, weight in enumerate(getattr(self, name) or ()):
                check_number(f'loss: {name}[{i}]', weight, DataError, above=0)


@dataclass(frozen=True)
class Phase:
    """Weights of the losses on the logits from an epoch on; None: as they were before."""

    epoch: int
    """The first epoch of the phase, counted from 0."""
    cross_entropy: float | None = None
    dice: float | None = None
    focal: float | None = None
    boundary: float | None = None
    lovasz: float | None = None


@dataclass(frozen=True)
class Loss(Terms):
    """The losses of a recipe, as read from `loss:`; on the network's logits where not said."""

    auxiliary: tuple[Terms, ...] = ()
    """Of each auxiliary head in the network's order; empty: they are not trained."""
    phases: tuple[Phase, ...] = ()
    """Changes of the weights in the course of training."""
    fusion: float = 0.0
    """Of the intensities and gradients of the fused image (DiFusionSeg)."""
    synergy: float = 0.0
    """Of the fused image, thermal in the foreground found and visible elsewhere (DiFusionSeg)."""

    def __post_init__(self):
        super().__post_init__()
        _require_within(self, _EXTRA)
        epochs = [phase.epoch for phase in self.phases]
        if epochs != sorted(set(epochs)) or min(epochs, default=1) < 1:
            raise DataError(f'loss: the phases begin at the epochs {epochs!r}, needed are rising '
                            'numbers from 1 on')
        for epoch in epochs:
            self.at(epoch)

    @property
    def needs_frame(self) -> bool:
        """Whether the objective needs the RGB frame before its colours were changed."""
        return bool(self.fusion or self.synergy)

    def kinds(self) -> list[str]:
        """Return the names of the losses on the logits that weigh anything in any phase."""
        parts = [self.at(epoch) for epoch in (0, *(phase.epoch for phase in self.phases))]
        return [kind for kind in _KINDS if any(getattr(part, kind) for part in parts)]

    def at(self, epoch: int) -> Terms:
        """Return the weights at an epoch, counted from 0."""
        weights = {kind: getattr(self, kind) for kind in _KINDS}
        for phase in self.phases:
            if phase.epoch <= epoch:
                weights |= {kind: getattr(phase, kind) for kind in _KINDS
                            if getattr(phase, kind) is not None}
        own = {field.name: getattr(self, field.name) for field in fields(Terms)}
        return replace(Terms(**own), **weights)


def _require_within(spec, names, low=0):
    for name in names:
        check_number(f'loss: {name}', getattr(spec, name), DataError, low=low)


def across(total: torch.Tensor) -> torch.Tensor:
    """
    Return `total` summed over all processes that train together.

    Gradients flow to this process's part alone, times the number of processes: their mean over
    the processes, which DistributedDataParallel takes, is the gradient of the whole.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return total
    whole = total.detach().clone()
    distributed.all_reduce(whole)
    return whole + distributed.get_world_size() * (total - total.detach())


def mean_over(each: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the sum of `each` over the sum of `counts`, 0 where nothing counts."""
    total, count = across(torch.stack((each.sum(), counts.sum())))
    return total / torch.where(count > 0, count, 1.0)


def class_planes(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return 1 in the plane of its class for each pixel, (N, K, H, W) of the type of `logits`."""
    ids = torch.arange(logits.shape[1], device=label.device)
    return (label[:, None] == ids[:, None, None]).to(logits.dtype)


def _log_likelihood(logits, label):
    """Return minus the log-probability of each pixel's class, 0 where unlabeled, and a mask."""
    each = F.cross_entropy(logits, label, reduction='none', ignore_index=UNLABELED)
    return each, (label != UNLABELED).to(logits.dtype)


def cross_entropy(logits, label, class_weights=None, label_smoothing=0.0, over_all_pixels=False):
    """
    Return the mean cross-entropy of logits (N, K, H, W) and class ids (N, H, W).

    It is over labelled pixels, weighed by the weight (K,) of their class, or over all pixels.
    """
    each = F.cross_entropy(logits, label, class_weights, reduction='none',
                           ignore_index=UNLABELED, label_smoothing=label_smoothing)
    counts = (label != UNLABELED).to(logits.dtype)
    if over_all_pixels:
        counts = torch.ones_like(counts)
    elif class_weights is not None:
        counts = counts * class_weights[label.masked_fill(label == UNLABELED, 0)]
    return mean_over(each, counts)


def dice(logits, label):
    """
    Return the mean over classes of 1 - 2·|P·T| / (|P| + |T|), sums over all labelled pixels.

    P are probabilities, T is 1 at the pixels of the class. A class without any counts as 0.
    """
    truth = class_planes(logits, label)
    found = logits.softmax(dim=1) * (label != UNLABELED)[:, None]
    sums = across(torch.stack([part.sum(dim=(0, 2, 3)) for part in (found * truth, found, truth)]))
    overlap, size_found, size = sums.unbind()
    score = 2.0 * overlap / (size_found + size).clamp(min=1e-7)
    return ((1.0 - score) * (size > 0)).mean()


def focal(logits, label, gamma=2.0, alpha=None):
    """
    Return the mean over labelled pixels of alpha·(1 - p)^gamma·(-log p).

    p is the probability of the true class, and `alpha` (K,) its weight.
    """
    each, counts = _log_likelihood(logits, label)
    rest = -torch.expm1(-each)
    weight = rest.clamp(min=0.0) ** gamma
    if alpha is not None:
        weight = weight * alpha[label.masked_fill(label == UNLABELED, 0)]
    return mean_over(weight * each, counts)


def boundary(logits, label, gain=1.5):
    """
    Return the mean over labelled pixels of the cross-entropy, weighed by 1 + `gain`·B.

    B is the number of classes whose plane of ones and zeros, with zeros around the image, has a
    Sobel gradient at the pixel.
    """
    each, counts = _log_likelihood(logits, label)
    planes = class_planes(logits, label)
    kernel = torch.tensor(_SOBEL, dtype=planes.dtype, device=planes.device)
    gradients = F.conv2d(planes.flatten(0, 1)[:, None], torch.stack((kernel, kernel.T))[:, None],
                         padding=1)  # NK 2 H W, whole numbers
    edges = gradients.any(dim=1).view(planes.shape).sum(dim=1)
    return mean_over(each * (1.0 + gain * edges), counts)


def lovasz(logits, label):
    """
    Return the Lovász-softmax loss, the mean over the classes that are present.

    It extends the Jaccard loss of a set of wrong pixels to errors between 0 and 1: pixels are
    taken by falling error, and each error weighs what its pixel adds to the loss of the set.
    """
    labelled = (label != UNLABELED)[:, None]
    truth = class_planes(logits, label)
    # Errors of 0 add nothing, wherever they are sorted to: there go the unlabeled pixels.
    errors = (truth - logits.softmax(dim=1)).abs() * labelled
    errors, truth = (part.transpose(0, 1).flatten(1) for part in (errors, truth))  # K P
    errors, order = errors.sort(dim=1, descending=True)
    truth = truth.gather(1, order)
    size = truth.sum(dim=1, keepdim=True)
    union = size + (1.0 - truth).cumsum(dim=1)
    loss = 1.0 - (size - truth.cumsum(dim=1)) / union
    steps = torch.cat((loss[:, :1], loss.diff(dim=1)), dim=1)
    present = (size[:, 0] > 0).to(errors.dtype)
    return ((errors * steps).sum(dim=1) * present).sum() / present.sum().clamp(min=1.0)


class _Criterion(nn.Module):
    """The losses of one map of logits by name, weighted."""

    def __init__(self, terms: Terms, num_classes: int):
        super().__init__()
        self.terms = terms
        self.kinds = terms.kinds() if isinstance(terms, Loss) else [
            kind for kind in _KINDS if getattr(terms, kind)]
        for name in ('class_weights', 'focal_alpha'):
            values = getattr(terms, name)
            if values is not None and len(values) != num_classes:
                raise DataError(f'loss: {name} is {values!r}, needed is one value for each of the '
                                f'{num_classes} classes')
            tensor = None if values is None else torch.tensor(values)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, logits, label, weights):
        logits, terms = at_least_float32(logits), self.terms
        losses = {
            'cross_entropy': lambda: cross_entropy(
                logits, label, self._like(self.class_weights, logits), terms.label_smoothing,
                terms.over_all_pixels),
            'dice': lambda: dice(logits, label),
            'focal': lambda: focal(
                logits, label, terms.focal_gamma, self._like(self.focal_alpha, logits)),
            'boundary': lambda: boundary(logits, label, terms.boundary_gain),
            'lovasz': lambda: lovasz(logits, label),
        }
        # A loss that another phase weighs is there in each, so that a table of them has no gaps.
        return {kind: getattr(weights, kind) * losses[kind]() if getattr(weights, kind)
                else logits.new_zeros(()) for kind in self.kinds}

    @staticmethod
    def _like(values, logits):
        return None if values is None else values.to(logits)


class Objective(nn.Module):
    """
    A network with the losses that it is trained by.

    `forward(rgb, x, label, frame)` takes two normalised float maps (N, 3, H, W) and (N, C, H, W)
    and class ids (N, H, W) int64, 255 where unlabeled. `frame` (N, H, W, 3) uint8 is the RGB
    frame before its colours were changed, which only the losses of a fused image need. It returns
    the losses by name, each a float32 scalar that is already weighted: their sum is what to
    minimise. Where no pixel has a label, those on labels are 0 and so are their gradients.

    `epoch`, counted from 0, is for the caller to set; phases of the recipe depend on it. The
    parameters of auxiliary heads are below `parts`, so the state of `network` is the same with and
    without them. Raise DataError where the recipe does not fit the network.
    """

    def __init__(self, network: Network, spec: Loss, num_classes: int):
        super().__init__()
        kind = type(network).__name__
        if len(spec.auxiliary) not in (0, network.AUXILIARY_HEADS):
            raise DataError(f'loss: auxiliary has {len(spec.auxiliary)} entries, {kind} has '
                            f'{network.AUXILIARY_HEADS} auxiliary heads: give one for each, or '
                            'none')
        for name in _EXTRA:
            if getattr(spec, name) and name not in network.TRAINING_TERMS:
                raise DataError(f'loss: {name} is {getattr(spec, name)!r}, but {kind} has no such '
                                'loss: leave it out')
        self.spec, self.epoch = spec, 0
        self.network = network
        self.parts = network.training_parts(num_classes, bool(spec.auxiliary))
        self.main = _Criterion(spec, num_classes)
        self.auxiliary = nn.ModuleList(_Criterion(part, num_classes) for part in spec.auxiliary)

    def forward(self, rgb, x, label, frame=None):
        logits, auxiliary, extra = self.outputs(rgb, x, label, frame)
        with without_autocast(logits):
            losses = self.main(logits, label, self.spec.at(self.epoch))
            for i, (criterion, aside) in enumerate(zip(self.auxiliary, auxiliary, strict=True)):
                for kind, loss in criterion(aside, label, criterion.terms).items():
                    losses[f'auxiliary{i + 1}.{kind}'] = loss
        for name in _EXTRA:
            weight = getattr(self.spec, name)
            if weight and name not in extra:
                raise DataError(f'loss: {name} is {weight!r}, but the objective got no frame: '
                                'give it the RGB frames before their colours were changed')
            if weight:
                losses[name] = weight * extra[name]
        return losses

    def outputs(self, rgb, x, label, frame=None) -> TrainingOutputs:
        """Return what the losses are taken of, from the inputs of `forward`."""
        if self.parts is None:
            return TrainingOutputs(self.network(rgb, x))
        return self.parts(self.network, rgb, x, label, frame)
