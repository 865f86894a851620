# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The command `rgbx-seg`."""

import argparse
from importlib import import_module
import os
import sys
import warnings

from rgbx_seg_ros import __version__
from rgbx_seg_ros.errors import lacking, RgbxSegError
from rgbx_seg_ros.tables import aligned
from rgbx_seg_ros.waiting import wait_without_spinning

COMMANDS = {
    # verb: (module with add_arguments and main, what it does)
    'models': ('cards.listing', 'list the models, or show the card of one'),
    'import-weights': ('weights.convert', 'turn a published checkpoint into weights for a card'),
    'predict': ('inference.predict', 'segment image files'),
    'export': ('export.onnx', 'write a model as an ONNX file'),
    'evaluate': ('evaluation.evaluate', 'score a model on a data set'),
    'compare': ('evaluation.compare', 'tell what moved between results, and whether by chance'),
    'train': ('training.train', 'train the network of a card'),
    'data': ('datasets.check', 'tell whether a data set is whole, and what is in it'),
    'label-boxes': ('datasets.label_boxes', 'make weak masks of boxes, to train on'),
    'label-rest': ('inference.label_rest', 'let a model label what humans have left open'),
    'make-bag': ('bags.make_bag', 'turn a folder of frames into a rosbag2'),
    'extract': ('extraction.extract', 'take pairs of frames out of bags, as a data set to label'),
    'labels': ('labelling.labels', 'take frames and masks to labelling tools, and back'),
    'replay': ('replay.command', 'segment a rosbag2 offline, without ROS'),
    'golden': ('inference.golden', 'freeze what a model makes of a pair, for self-tests'),
    'calibrate': ('registration.calibrate', 'find how X lies on RGB, from pairs of frames'),
    'benchmark': ('benchmark.benchmark',
                  'time models and engines on this machine, or the live node'),
    'doctor': ('benchmark.doctor', 'tell what is installed, what runs the model, and how fast'),
    'top': ('node.top', 'show live what the segmentation nodes tell about themselves'),
    'view': ('node.view', 'show live in a browser what the nodes see and tell'),
    'demo': ('node.demo', 'run the live node on bundled frames of day and night'),
}

EXIT_CODES = {
    0: 'all is well',
    1: 'a data set or an installation has faults, or bags could not be replayed: it is told',
    2: 'an error that you can mend, told in one line on stderr',
    3: 'evaluate, replay: the result is not as --require or --baseline ask',
    130: 'interrupted with Ctrl-C',
    141: 'whoever read the output has stopped',
}

ROS_PACKAGES = ('diagnostic_msgs', 'lifecycle_msgs', 'nav_msgs', 'rcl_interfaces', 'rclpy',
                'sensor_msgs', 'std_msgs')


def parse(arguments):
    """Return the parsed command line; the function to call is its `main`."""
    verbs = '\n'.join(aligned(
        [(f'  {verb}', text) for verb, (_, text) in COMMANDS.items()], '<<'))
    codes = '\n'.join(aligned(
        [(f'  {code}', text) for code, text in EXIT_CODES.items()], '<<'))
    parser = argparse.ArgumentParser(
        prog='rgbx-seg', formatter_class=argparse.RawDescriptionHelpFormatter,
        usage='rgbx-seg [-h] [--version] VERB ...',
        description='RGB-X semantic segmentation: a camera with thermal, depth or polarization.',
        epilog=f'verbs:\n{verbs}\n\nexit codes:\n{codes}\n\n'
               'rgbx-seg VERB --help tells more of one.')
    parser.add_argument('--version', action='version', version=f'rgbx-seg {__version__}')
    parser.add_argument('verb', choices=COMMANDS, metavar='VERB', help='what to do')
    chosen = parser.parse_args(arguments[:1])

    # Only the chosen verb is imported: help must not wait for torch.
    module, text = COMMANDS[chosen.verb]
    module = import_module(f'rgbx_seg_ros.{module}')
    verb = argparse.ArgumentParser(prog=f'rgbx-seg {chosen.verb}',
                                   description=f'{text[0].upper()}{text[1:]}.')
    module.add_arguments(verb)
    return verb.parse_args(arguments[1:], argparse.Namespace(main=module.main))


def main():
    """
    Run the command and return its exit code, one of `EXIT_CODES`.

    With 2 goes one line on stderr, for an error a user can mend.
    """
    wait_without_spinning(os.environ)
    warnings.formatwarning = lambda message, *_: f'rgbx-seg: warning: {message}\n'
    # Names of files need not be text, and not every terminal has all letters.
    sys.stdout.reconfigure(errors='backslashreplace')
    try:
        try:
            return _run(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough, as in `rgbx-seg models | head -1`. Python flushes once more
        # at its end, to where it does not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130


def _run(arguments):
    try:
        args = parse(arguments)
        return args.main(args) or 0
    except BrokenPipeError:
        raise
    except RgbxSegError as error:
        message = error
    except OSError as error:
        message = f'{error.strerror}: {error.filename!r}' if error.filename else error
    except ModuleNotFoundError as error:
        message = lacking(error)
        if error.name in ROS_PACKAGES:
            message = (f'{arguments[0]!r} needs ROS 2, whose {error.name!r} is not here: source a '
                       'distribution (. /opt/ros/NAME/setup.sh) or pip install '
                       "'rgbx_seg_ros[ros]'")
        if not message:
            raise
    print(f'rgbx-seg: error: {message}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
