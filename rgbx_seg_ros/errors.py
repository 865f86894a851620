# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Errors a user can mend.

Each message says what was given, what is allowed and what to do. The command line prints it in
one line and exits with 2; the node logs it and stays alive where it can.
"""

import sys

FROM_PIP = ('torch', 'filelock', 'safetensors', 'rosbags')
"""Libraries that apt has not, or not new enough: those that the Python of a robot may lack."""


def lacking(error: ModuleNotFoundError) -> str:
    """Return what to do about the lack of one of FROM_PIP; empty for any other module."""
    if error.name not in FROM_PIP:
        return ''
    return (f'{error.name!r} is not installed for {sys.executable}: pip install it there; where '
            'it is in an environment, build the workspace with the Python of that, python3 -m '
            'colcon build')


class RgbxSegError(Exception):
    """Base of every error whose message is meant for the user, not for a developer."""


class CardError(RgbxSegError):
    """A model card is missing, unreadable or contradicts itself."""


class WeightsError(RgbxSegError):
    """A weights file is missing, unreadable or does not belong to the network."""


class EngineError(RgbxSegError):
    """An engine or a device is unknown, or not available on this machine."""


class UnavailableError(EngineError):
    """An engine that needs what is not installed here."""


class FrameError(RgbxSegError):
    """An image array has a shape, type or content that the model cannot take."""


class PictureError(RgbxSegError):
    """An encoded picture is damaged, too large, or of a kind or sort that is not read."""


class MessageError(RgbxSegError):
    """An image message contradicts itself or has an encoding that is not supported."""


class DataError(RgbxSegError):
    """A folder of frames, a data set or a bag is missing, incomplete or unreadable."""


class ParameterError(RgbxSegError):
    """A parameter has an unknown name, a wrong type or a value that is not allowed."""


class PoseError(RgbxSegError):
    """Where a sensor is, over the ground or beside another one, is not known or cannot be."""
