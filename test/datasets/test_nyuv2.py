# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""NYUv2 in its original file: what is missing or does not fit together is named."""

import sys

import numpy as np
import pytest
from rgbx_seg_ros.datasets.nyuv2 import NyuV2, NyuV2Mat
from rgbx_seg_ros.errors import DataError
from support.dataset_trees import nyuv2_mat

h5py = pytest.importorskip('h5py', reason='MATLAB files need h5py')
savemat = pytest.importorskip('scipy.io', reason='MATLAB files need scipy').savemat


@pytest.fixture
def root(tmp_path):
    nyuv2_mat(tmp_path)
    return tmp_path


@pytest.mark.parametrize('name', ['nyu_depth_v2_labeled.mat', 'splits.mat', 'classMapping40.mat'])
@pytest.mark.parametrize('content', [None, b'', b'no matrix, but some text of sufficient length'])
def test_each_of_the_three_files_is_named_when_it_is_missing_or_unreadable(root, name, content):
    (root / name).unlink() if content is None else (root / name).write_bytes(content)
    message = 'is missing' if content is None else 'cannot read'
    with pytest.raises(DataError, match=message) as error:
        NyuV2Mat(root, 'train')[0]
    assert repr(str(root / name)) in str(error.value)


@pytest.mark.parametrize('library', ['h5py', 'scipy'])
def test_a_missing_library_is_named_with_how_to_get_it(root, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f'{library}.io', None)
    with pytest.raises(DataError, match=rf"'{library}' is missing.*pip install .*\[nyuv2\]"):
        NyuV2Mat(root, 'train')


def test_a_split_that_names_frames_which_are_not_there_is_refused(root):
    savemat(root / 'splits.mat', {'trainNdxs': [[1], [5]], 'testNdxs': [[2]]})
    with pytest.raises(DataError, match='splits.mat names the frames 1 to 5, .* has 4'):
        NyuV2Mat(root, 'train')


def test_a_label_beyond_the_mapping_and_a_mapping_beyond_the_classes_are_refused(root):
    savemat(root / 'classMapping40.mat', {'mapClass': [list(range(1, 41))]})
    with pytest.raises(DataError, match='label 0002 of .* with ids up to 80, needed is .* 40'):
        NyuV2Mat(root, 'test')[0]
    savemat(root / 'classMapping40.mat', {'mapClass': [[*range(1, 41), *range(1, 40)]]})
    with pytest.raises(DataError, match='with ids up to 80, needed is .* 79'):
        NyuV2Mat(root, 'test')[0]
    savemat(root / 'classMapping40.mat', {'mapClass': [list(range(2, 42))]})
    with pytest.raises(DataError, match='numbers outside of 1..40'):
        NyuV2Mat(root, 'test')[0]


def test_the_file_can_be_read_by_several_workers(root):
    from torch.utils.data import DataLoader

    data = NyuV2Mat(root, 'train')
    loaded = list(DataLoader(data, batch_size=None, num_workers=2))
    for sample, wanted in zip(loaded, data, strict=True):
        assert np.array_equal(sample.rgb, wanted.rgb) and np.array_equal(sample.x, wanted.x)


def test_the_forty_colours_differ():
    assert len({label.color for label in NyuV2.CLASSES}) == 40
