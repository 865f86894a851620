# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What Sphinx must know beyond what rosdoc2 sets for it."""

import re

from sphinx.ext.autodoc.mock import _MockObject

# Where documentation is built neither a GPU's libraries nor ROS are there. rosdoc2 mocks what
# package.xml names; these come from pip.
autodoc_mock_imports = [
    'cv2', 'filelock', 'h5py', 'pycocotools', 'rasterio', 'rosbags', 'safetensors', 'scipy',
    'tf2_ros', 'torch']
# Annotations such as torch.Tensor | None, and a table, are worked out at import: mocks learn to.
_MockObject.__or__ = _MockObject.__ror__ = _MockObject.__truediv__ = lambda self, other: self
myst_heading_anchors = 4
# GitHub shows files of the repository behind links that lead out of the pages, and draws diagrams:
# Sphinx can do neither. That no link is dead a test holds. A class is found twice where the face
# of a folder names it as well.
suppress_warnings = ['misc.highlighting_failure', 'myst.xref_missing', 'ref.python']


def setup(app):
    """Let norms and products stand as they are: docstrings are plain text here."""
    app.connect('autodoc-process-docstring', lambda *arguments: _escape(arguments[-1]))


def _escape(lines):
    lines[:] = [re.sub(r'_(?=\*)|[|*]', r'\\\g<0>', line) for line in lines]
