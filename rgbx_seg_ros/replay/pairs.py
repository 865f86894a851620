# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The pairs of a recording, found as the node finds them; what is left out is counted."""

from collections import Counter

from rgbx_seg_ros.errors import DataError, FrameError, MessageError, ParameterError
from rgbx_seg_ros.frames.raw import check_x
from rgbx_seg_ros.inference.pipeline import Frame
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, stamp_ns
from rgbx_seg_ros.sync.pairing import Pair, Pairer, PairingSettings

# A bag is in no hurry: an X stream that arrives half a second late still finds its RGB frames.
_LATENESS_NS = 500_000_000


class PairFinder:
    """
    Makes pairs of the messages of a bag, which it takes by time of receipt.

    The frames are `pipeline.Frame`s with their pixels: one that has none must not take the partner
    of a good one. Of 16-bit colour the lower `rgb_bits` count.
    """

    def __init__(self, settings: PairingSettings, rgb_bits: int = 16):
        self.settings = settings
        self._pairer = Pairer(settings)
        self._rgb_bits = rgb_bits
        self._dropped: Counter[str] = Counter()
        self.found = 0
        self.messages = Counter(rgb=0, x=0)
        """Messages taken, by 'rgb' and 'x'."""
        self.first_errors: dict[str, str] = {}
        """What was wrong with the first malformed message, by the same names."""

    @property
    def drops(self) -> dict[str, int]:
        """Messages left out, by reason."""
        return dict(self._pairer.drops + self._dropped)

    def take(self, modality: str, message, now_ns: int) -> list[Pair]:
        """Take a message of 'rgb' or 'x', received at `now_ns`; return the pairs now certain."""
        self.messages[modality] += 1
        try:
            time_ns = stamp_ns(message.header)
            if modality == 'rgb':
                pixels = decode_rgb(message, self._rgb_bits)
            else:
                pixels = decode_x(message)
                check_x(pixels)
        except (MessageError, FrameError) as error:
            self.refuse(modality, error, 'malformed')
            return []
        add = self._pairer.add_rgb if modality == 'rgb' else self._pairer.add_x
        return self._counted(add(time_ns, Frame(message, 0, 0, pixels), now_ns))

    def finish(self) -> list[Pair]:
        """Return the pairs that were still open at the end of the bag."""
        return self._counted(self._pairer.flush())

    def refuse(self, kind: str, error: Exception, reason: str) -> None:
        """Count a message that cannot be used."""
        self._dropped[f'{kind}_{reason}'] += 1
        self.first_errors.setdefault(kind, str(error))

    def refuse_pair(self, modality: str, error: Exception, reason: str) -> None:
        """Count a frame that its pair cannot use, and its partner, which is left alone."""
        self.refuse(modality, error, reason)
        self._dropped['x_unused' if modality == 'rgb' else 'rgb_no_partner'] += 1

    def why_none(self, reader, topics: dict[str, str]) -> str:
        """Return why no pair of the bag could be used, in a line that names it."""
        drops = ', '.join(f'{reason} {count}' for reason, count in sorted(self.drops.items()))
        why = [f'first bad {kind} message: {text}' for kind, text in self.first_errors.items()]
        if not self.found and not any(self.drops.get(f'{kind}_malformed') == self.messages[kind]
                                      for kind in ('rgb', 'x')):
            why.append(reader.why_no_pairs([topics['rgb'], topics['x']]))
        return (f'{str(reader.path)!r} holds no pair: {self.messages["rgb"]} frames in '
                f'{topics["rgb"]}, {self.messages["x"]} in {topics["x"]}, slop '
                f'{self.settings.slop_ns / 1e6:g} ms, dropped: {drops or "none"}; '
                f'{"; ".join(why)}')

    def _counted(self, pairs):
        self.found += len(pairs)
        return pairs


def pairing_settings(slop_ms: float, x_offset_ms: float) -> PairingSettings:
    """Return what decides about the pairs of a bag; raise ParameterError for what cannot be."""
    if not 0 <= slop_ms <= 10_000:
        raise ParameterError(f'slop is {slop_ms!r} ms, allowed is 0 to 10000')
    if not abs(x_offset_ms) <= 60_000:
        raise ParameterError(f'offset of X is {x_offset_ms!r} ms, allowed is -60000 to 60000')
    slop_ns = round(slop_ms * 1e6)
    return PairingSettings(slop_ns=slop_ns, max_wait_ns=slop_ns + _LATENESS_NS,
                           x_offset_ns=round(x_offset_ms * 1e6))


def needed_info_topics(reader, topics: dict[str, str], parameters) -> dict[str, str]:
    """Return the topics of the CameraInfo that the registration needs, by modality."""
    if parameters.registration_mode != 'extrinsics':
        return {}
    try:
        return {modality: reader.info_topic(topics[modality]) for modality in ('rgb', 'x')}
    except DataError as error:
        raise DataError(f"registration.mode is 'extrinsics', but {error}: record them, or use the "
                        'mode homography') from error


def first_infos(reader, info_topics: dict[str, str]) -> dict:
    """Return the first CameraInfo of each of the topics, by modality."""
    # A latched CameraInfo may have been received after the first frames that it is for.
    return {modality: next(reader.messages([topic]))[2]
            for modality, topic in info_topics.items()}
