# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Topics: found by name and type where one is meant, else listed for the user to choose."""

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import BagReader, BagWriter, compressed_message, image_message
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.extraction.topics import find_topics
from rgbx_seg_ros.parameters import DEFAULTS, Parameters

COLOUR = np.zeros((4, 6, 3), np.uint8)
GREY, DEEP, FLOAT = (np.zeros((4, 6), kind) for kind in (np.uint8, np.uint16, np.float32))
ENCODINGS = {'uint8': 'mono8', 'uint16': '16UC1', 'float32': '32FC1'}


def find(tmp_path, topics, rgb=None, x=None, parameters=DEFAULTS):
    """Return what is found in a bag with a frame in each of `topics`."""
    with BagWriter(tmp_path / 'bag') as bag:
        for i, (topic, pixels) in enumerate(topics.items()):
            if topic.endswith('compressed'):
                data = cv2.imencode('.png', pixels)[1].tobytes()
                message = compressed_message(data, 'png', 1 + i, 'f')
            else:
                encoding = 'rgb8' if pixels.ndim == 3 else ENCODINGS[pixels.dtype.name]
                message = image_message(pixels, encoding, 1 + i, 'f')
            bag.write(topic, message, 1 + i)
    with BagReader(tmp_path / 'bag') as reader:
        return find_topics(reader, rgb, x, parameters)


@pytest.mark.parametrize(('topics', 'rgb', 'x'), [
    ({'/rgb/image': COLOUR, '/x/image': GREY}, '/rgb/image', '/x/image'),
    ({'/camera/image_raw': COLOUR, '/thermal/image_raw': GREY},
     '/camera/image_raw', '/thermal/image_raw'),
    ({'/cam0': COLOUR, '/cam1': DEEP}, '/cam0', '/cam1'),
    ({'/cam0': COLOUR, '/cam1': FLOAT, '/cam2': GREY}, '/cam0', '/cam1'),
    ({'/cam0': COLOUR, '/cam1': GREY}, '/cam0', '/cam1'),
    ({'/cam0': GREY, '/flir_boson/image': GREY}, '/cam0', '/flir_boson/image'),
    ({'/color/image_raw': COLOUR, '/left/image': COLOUR, '/depth/image': DEEP},
     '/color/image_raw', '/depth/image'),
    ({'/cam/compressed': COLOUR, '/ir': GREY}, '/cam/compressed', '/ir'),
    ({'/cam': COLOUR, '/cam/compressed': COLOUR, '/ir': GREY}, '/cam', '/ir'),
    ({'/iris/image': COLOUR, '/cam1': GREY}, '/iris/image', '/cam1'),
    ({'/first/circle': COLOUR, '/infra1/image': GREY}, '/first/circle', '/infra1/image'),
    ({'/cam': COLOUR, '/ir': GREY, '/segmentation/mask': GREY, '/segmentation/overlay': COLOUR,
      '/ground_truth/mask': GREY}, '/cam', '/ir'),
    ({'/front': COLOUR, '/thermal': COLOUR}, '/front', '/thermal'),
])
def test_a_camera_and_x_are_found(tmp_path, topics, rgb, x):
    found = find(tmp_path, topics)
    assert found.by_modality == {'rgb': rgb, 'x': x}
    assert [line.split()[:2] for line in found.lines] == [['rgb:', rgb], ['x:', x]]


@pytest.mark.parametrize(('topics', 'message'), [
    ({'/cam': COLOUR, '/ir': GREY, '/depth': DEEP},
     r"bag' has 2 topics that may be X: /depth \(uint16, 1\), /ir \(grey, 1\); name one with "
     '--x-topic'),
    ({'/left': COLOUR, '/right': COLOUR, '/ir': GREY},
     r'has 2 topics that may be the camera: /left \(colour, 1\), /right \(colour, 1\); name one '
     'with --rgb-topic'),
    ({'/left': COLOUR, '/right': COLOUR},
     r'has no topic that is X .*: images are in /left \(colour, 1\), /right \(colour, 1\); name'),
    ({'/depth': DEEP, '/depth_2/compressed': DEEP}, r'has 2 topics that may be X'),
    ({'/ir': GREY}, 'has no topic that is the camera .*: images are in no other topic'),
])
def test_what_is_not_clear_lists_the_candidates(tmp_path, topics, message):
    with pytest.raises(DataError, match=message) as error:
        find(tmp_path, topics)
    assert '\n' not in str(error.value)


def test_a_topic_that_is_named_leaves_the_others(tmp_path):
    topics = {'/left': COLOUR, '/right': COLOUR, '/ir': GREY, '/depth': DEEP}
    assert find(tmp_path / '1', topics, '/right', '/ir').by_modality == {
        'rgb': '/right', 'x': '/ir'}
    assert find(tmp_path / '2', {'/left': COLOUR, '/right': COLOUR}, x='/left').rgb == '/right'
    with pytest.raises(DataError, match="topic '/up' is not in"):
        find(tmp_path / '3', topics, '/up', '/ir')
    with pytest.raises(DataError, match='both topics are'):
        find(tmp_path / '4', topics, '/left', '/left')


def test_the_kind_of_x_chooses_among_several(tmp_path):
    topics = {'/cam': COLOUR, '/ir': GREY, '/depth': DEEP}
    found = find(tmp_path / '1', topics, parameters=Parameters(x_kind='depth'))
    assert (found.x, found.x_kind, found.x_folder) == ('/depth', 'depth', None)
    found = find(tmp_path / '2', topics, parameters=Parameters(x_kind='thermal'))
    assert (found.x, found.x_kind) == ('/ir', 'thermal')
    found = find(tmp_path / '3', {'/cam': COLOUR, '/stereo/disparity': DEEP})
    assert (found.x_kind, found.x_folder) == ('depth', 'disparity')


def test_a_transport_that_is_asked_for_is_taken(tmp_path):
    topics = {'/cam': COLOUR, '/cam/compressed': COLOUR, '/ir': GREY, '/ir/compressed': GREY}
    found = find(tmp_path, topics, parameters=Parameters(rgb_transport='compressed'))
    assert found.by_modality == {'rgb': '/cam/compressed', 'x': '/ir'}
