# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg labels`: frames of a folder to a labelling tool, and corrected masks back to `label/`.

The folder is the data set `folder`, as `rgbx-seg extract` leaves it.
"""

from pathlib import Path

from rgbx_seg_ros.cards.labels import LabelSet, UNLABELED
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import move_in, staging
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.labelling import coco, cvat
from rgbx_seg_ros.labelling.archive import Archive
from rgbx_seg_ros.labelling.classes import classes_of, tool_labels, ToolNames
from rgbx_seg_ros.labelling.imported import import_masks, Report
from rgbx_seg_ros.labelling.masks import ToolMask
from tqdm import tqdm

WRITERS = {'cvat': cvat.Writer, 'coco': coco.Writer}


def export(data: FolderDataset, classes: LabelSet, out: Path, format_name: str = 'cvat',
           segmenter: Segmenter | None = None) -> tuple[int, int]:
    """
    Write the frames of `data` to the new folder `out` for a tool, one of `WRITERS`.

    With a frame goes its label, or else the mask of `segmenter`, if there is one. Return how many
    frames got a label and how many a mask. Raise DataError where a label holds other classes.
    """
    if out.exists():
        raise DataError(f'{str(out)!r} exists already: remove it or choose another --out')
    for name in data.names:
        if name.encode(errors='replace').decode() != name or name.splitlines() != [name]:
            raise DataError(f'the frame {name!r} has a name that is no line of text, which tools '
                            'need: rename its files')
    labelled = masked = 0
    with staging(out) as part:
        with WRITERS[format_name](part, tool_labels(classes)) as writer:
            for sample in tqdm(data, unit='pair', leave=False, disable=None):
                label = sample.label
                if label is not None:
                    _check_ids(label, classes, data.files(sample.name).label)
                    labelled += 1
                elif segmenter is not None:
                    label = segmenter(sample.rgb, sample.x).mask
                    masked += 1
                writer.add(sample, data.files(sample.name).rgb, label)
        move_in(part, out)
    return labelled, masked


def _check_ids(label, classes, path):
    """Raise DataError for a label with other ids than those of classes and 255."""
    highest = int(label.max(initial=0, where=label != UNLABELED))
    if highest >= len(classes):
        raise DataError(f'{str(path)!r} holds the id {highest}, the classes are '
                        f'0..{len(classes) - 1} and {UNLABELED}')


def exported_masks(archive: Archive, path: str | None, names: ToolNames,
                   crowds: str = coco.CROWDS[0]) -> list[ToolMask]:
    """
    Return the masks in an export of a tool, of COCO if the JSON `path` in it is given.

    `crowds` says what becomes of those of COCO, see `coco.masks`. Raise DataError where there is
    no mask.
    """
    if path is None and not any(cvat.CLASS_FOLDER in name.split('/') for name in archive.names):
        found = [name for name in archive.names if name.lower().endswith('.json')]
        if len(found) != 1:
            given = f'{len(found)} .json files, {", ".join(found[:3])}' if found else 'neither'
            raise DataError(f'{str(archive.path)!r} is of no tool that is read: needed is '
                            f"CVAT's {cvat.CLASS_FOLDER}/, or one .json of COCO; it has {given}")
        path, = found
    found = coco.masks(archive, path, names, crowds) if path else cvat.masks(archive, names)
    if not found:
        raise DataError(f'{str(archive.path)!r} holds no mask')
    return found


def import_labels(data: FolderDataset, classes: LabelSet, source: Path, out: Path | None = None,
                  replace: bool = False, partial: bool = False, crowds: str = coco.CROWDS[0]
                  ) -> Report:
    """
    Write the masks of an export, a zip, a folder or a JSON of COCO, as labels of `data`.

    They go to `label/` or to a new folder `out`; see `import_masks` and `exported_masks`. Raise
    DataError for what is no export of a tool that is read.
    """
    if out is not None and out.exists():
        raise DataError(f'{str(out)!r} exists already: remove it or choose another --out')
    is_json = source.suffix.lower() == '.json' and source.is_file()
    with Archive(source.parent if is_json else source) as archive:
        masks = exported_masks(archive, source.name if is_json else None, ToolNames(classes),
                               crowds)
        return import_masks(data, masks, out, replace, partial)


def add_arguments(parser):
    """Declare the command's arguments."""
    actions = parser.add_subparsers(title='what to do', dest='action', metavar='ACTION',
                                    required=True)
    one = actions.add_parser('export', help='write frames and masks for a tool',
                             description='Write frames and masks for a labelling tool.')
    one.add_argument('folder', type=Path, help='folder with rgb/, one of thermal/ depth/ '
                                               'disparity/ x/, and maybe label/')
    one.add_argument('-o', '--out', type=Path, required=True, metavar='FOLDER',
                     help='new folder for what the tool gets')
    one.add_argument('--format', choices=WRITERS, default='cvat',
                     help='cvat: Segmentation mask 1.1, with X beside each frame; coco: panoptic '
                          '(default: cvat)')
    one.add_argument('--split', metavar='NAME', help='the part of the data set')
    one.add_argument('--model', metavar='CARD',
                     help='a card, or the name of one, whose masks go with frames that have no '
                          'label; its classes count where dataset.yaml names none')
    one.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')
    one = actions.add_parser('import', help='make label/ of the masks of a tool',
                             description='Make label/ of the masks of a labelling tool: of all '
                                         'of them, or of none.')
    one.add_argument('folder', type=Path, help='the folder that was exported')
    one.add_argument('source', type=Path,
                     help="what the tool has exported: a zip or folder of CVAT's Segmentation "
                          'mask 1.1, or COCO, panoptic or instances, also a .json')
    one.add_argument('--split', metavar='NAME', help='the part of the data set')
    one.add_argument('--model', metavar='CARD',
                     help='a card, or the name of one, whose classes count where dataset.yaml '
                          'names none')
    one.add_argument('-o', '--out', type=Path, metavar='FOLDER',
                     help='new folder for the labels (default: label/ of the folder)')
    one.add_argument('--replace', action='store_true',
                     help='write over labels that a command of rgbx-seg has written')
    one.add_argument('--partial', action='store_true', help='let frames be without a mask')
    one.add_argument('--crowds', choices=coco.CROWDS, default=coco.CROWDS[0],
                     help='what becomes of what COCO marks as a crowd, as CVAT marks all that its '
                          'brush has painted (default: %(default)s)')


def _export(args):
    data = FolderDataset(args.folder, args.split)
    classes = classes_of(data, args.model)
    segmenter = Segmenter.from_card(args.model, device=args.device) if args.model else None
    labelled, masked = export(data, classes, args.out, args.format, segmenter)
    print(f'wrote {len(data)} frames to {args.out}: {labelled} with a label, {masked} with a mask '
          f'of the model, {len(data) - labelled - masked} with none')


def _import(args):
    data = FolderDataset(args.folder, args.split)
    report = import_labels(data, classes_of(data, args.model), args.source, args.out,
                           args.replace, args.partial, args.crowds)
    print(report)
    return int(bool(report.problems))


def main(args):
    """Run the command; return 1 where masks have problems."""
    return {'export': _export, 'import': _import}[args.action](args)
