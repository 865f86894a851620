# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag are the camera and X, by what they hold and how they are called."""

import re
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.bags.storage import BagReader, IMAGES, RGB_TOPIC, X_TOPIC
from rgbx_seg_ros.errors import DataError, MessageError
from rgbx_seg_ros.messages.images import decode_x
from rgbx_seg_ros.parameters import Parameters

_TRANSPORT = re.compile('/(compressed|compressedDepth)$')
_KINDS = {
    'thermal': ('thermal', 'infra', 'ir', 'lwir', 'mwir', 'flir', 'boson', 'lepton'),
    'depth': ('depth', 'disparity'),
    'polarization': ('polar', 'aolp', 'dolp'),
    'dsm': ('dsm',)}
_RGB_WORDS = ('rgb', 'color', 'colour')
_NO_CAMERA = ('segmentation', 'mask', 'label', 'ground', 'overlay', 'confidence')
"""What this package and others make of frames."""
_SHORT = 3
"""Words of so many letters count as a whole only: the circle and the first are no ir."""


class _Candidate(NamedTuple):
    """A topic of images that has messages, in the transport that is read."""

    topic: str
    form: str
    """What a message of it shows: colour, grey, or measured values of 16 or 32 bits."""
    count: int

    def __str__(self):
        return f'{self.topic} ({self.form}, {self.count})'

    @property
    def base(self) -> str:
        """The name without that of the transport."""
        return _TRANSPORT.sub('', self.topic)

    def speaks_of(self, words) -> bool:
        """Return whether one of `words` is in the name."""
        parts = re.split('[^a-z]+', self.base.lower())
        return any(part == word or (len(word) > _SHORT and part.startswith(word))
                   for part in parts for word in words)


class Topics(NamedTuple):
    """The topics of a bag that are read, and how they were found."""

    rgb: str
    x: str
    lines: tuple[str, ...]
    """What to tell the user of the choice."""

    @property
    def by_modality(self) -> dict[str, str]:
        """The topics by 'rgb' and 'x'."""
        return {'rgb': self.rgb, 'x': self.x}

    @property
    def x_kind(self) -> str | None:
        """What X measures, by the name of its topic; None where that does not tell."""
        x = _Candidate(self.x, '', 0)
        return next((kind for kind, words in _KINDS.items() if x.speaks_of(words)), None)

    @property
    def x_folder(self) -> str | None:
        """The folder of a data set that is called as X is; None where its kind tells."""
        return 'disparity' if _Candidate(self.x, '', 0).speaks_of(('disparity',)) else None


def find_topics(reader: BagReader, rgb: str | None, x: str | None, parameters: Parameters
                ) -> Topics:
    """
    Return the topics of camera and X: `rgb` and `x`, or those that a name and messages tell.

    Raise DataError where several may be meant, or none; it lists those that there are.
    """
    # A named topic takes its place from the others before they are asked for the one that is left.
    given = {'rgb': rgb and reader.image_topic(rgb, parameters.rgb_transport),
             'x': x and reader.image_topic(x, parameters.x_transport)}
    candidates = [] if rgb and x else _candidates(reader, parameters, given)
    lines, found = [], {}
    for modality, choose in (('x', _may_be_x), ('rgb', _may_be_rgb)):
        found[modality] = given[modality]
        if found[modality] is None:
            chosen = _only_one(reader, modality, candidates, choose(candidates, parameters))
            candidates.remove(chosen)
            found[modality] = chosen.topic
            lines.insert(0, f'{modality}: {chosen}, found by name and type')
        else:
            lines.insert(0, f'{modality}: {found[modality]}')
    if found['rgb'] == found['x']:
        raise DataError(f'both topics are {found["rgb"]!r}: they must differ')
    return Topics(found['rgb'], found['x'], tuple(lines))


def _candidates(reader, parameters, given):
    """Return the topics that may be one of the two, each in one transport."""
    taken = {_TRANSPORT.sub('', topic) for topic in given.values() if topic}
    bases = {_TRANSPORT.sub('', topic): None for topic, count in reader.counts.items()
             if count and reader.topics[topic] in IMAGES}
    found = []
    for base in bases:
        is_x = _Candidate(base, '', 0).speaks_of(_x_words(parameters))
        topic = reader.image_topic(
            base, parameters.x_transport if is_x else parameters.rgb_transport)
        one = _Candidate(topic, _form(reader, topic), reader.counts[topic])
        if base not in taken and one.form and not one.speaks_of(_NO_CAMERA):
            found.append(one)
    return found


def _form(reader, topic):
    """Return what the first message of a topic shows; '' for what cannot be read."""
    try:
        pixels = decode_x(next(reader.messages([topic]))[2])
    except MessageError:
        return ''
    if pixels.ndim == 3 and pixels.shape[2] > 1:
        return 'colour'
    return 'grey' if pixels.dtype == np.uint8 else f'{pixels.dtype}'


def _x_words(parameters):
    """Return the words that name X: those of its kind, where that is known."""
    kinds = [parameters.x_kind] if parameters.x_kind in _KINDS else _KINDS
    return tuple(word for kind in kinds for word in _KINDS[kind])


def _may_be_x(candidates, parameters):
    """Return the candidates for X, the first of several ways to tell that leads to one."""
    named = [one for one in candidates if one.base == X_TOPIC]
    speaking = [one for one in candidates if one.speaks_of(_x_words(parameters))]
    measuring = [one for one in candidates if one.form not in ('colour', 'grey')]
    grey = [one for one in candidates if one.form == 'grey' and not one.speaks_of(_RGB_WORDS)]
    return named or speaking or measuring or grey


def _may_be_rgb(candidates, parameters):
    """Return the candidates for the camera, likewise; X is none of them any more."""
    others = tuple(word for words in _KINDS.values() for word in words)
    named = [one for one in candidates if one.base == RGB_TOPIC]
    seen = [one for one in candidates if one.form in ('colour', 'grey')
            and not one.speaks_of(others)]
    colour = [one for one in seen if one.form == 'colour']
    speaking = [one for one in colour if one.speaks_of(_RGB_WORDS)]
    return named or speaking or colour or seen


def _only_one(reader, modality, candidates, chosen):
    if len(chosen) == 1:
        return chosen[0]
    what = {'rgb': 'the camera', 'x': 'X'}[modality]
    if chosen:
        raise DataError(f'{str(reader.path)!r} has {len(chosen)} topics that may be {what}: '
                        f'{", ".join(map(str, chosen))}; name one with --{modality}-topic')
    images = ', '.join(map(str, candidates)) or 'no other topic'
    raise DataError(f'{str(reader.path)!r} has no topic that is {what} by its name or its '
                    f'messages: images are in {images}; name one with --{modality}-topic')
