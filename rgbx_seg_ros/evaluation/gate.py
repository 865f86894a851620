# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A result that must be good enough: bounds of its figures, given or of an older result."""

from collections.abc import Iterable
import math
import operator
from pathlib import Path
import re
import sys
from typing import NamedTuple
from xml.etree import ElementTree

from rgbx_seg_ros.errors import DataError, ParameterError, RgbxSegError
from rgbx_seg_ros.evaluation.results import (
    check_names,
    check_same_setting,
    metric_of,
    metrics,
    read_result,
    verb_of,
)
from rgbx_seg_ros.fields import check_number
from rgbx_seg_ros.files import MARK, write_text

FAILED = 3
"""The exit code of a verb whose result is not good enough."""
TOLERANCE = 0.01
"""How much worse than the baseline a figure may be by itself."""

_SIGNS = {'>=': operator.ge, '<=': operator.le, '>': operator.gt, '<': operator.lt}
_NO_XML = re.compile('[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')
_ROUNDING = 1e-12  # of a difference between shares


class Requirement(NamedTuple):
    """A figure and its bound."""

    metric: str
    sign: str
    bound: float
    origin: str = ''
    """Where the bound comes from, unless a user has given it."""

    @classmethod
    def parsed(cls, text: str) -> 'Requirement':
        """Return what `text`, as 'miou>=0.60', requires; raise ParameterError where it cannot."""
        match = re.fullmatch(r'\s*([^<>=]+?)\s*([<>]=?)\s*([^\s<>=]+)\s*', text)
        try:
            name, sign, bound = match.groups() if match else ('', '', '')
            bound = float(bound)
        except ValueError:
            bound = math.nan
        if not math.isfinite(bound):
            raise ParameterError(f'requirement {text!r} cannot be read: needed are a metric, one '
                                 f"of {' '.join(_SIGNS)} and a number, as in 'miou>=0.60'")
        return cls(name, sign, bound)

    def __str__(self):
        return f'{self.metric}{self.sign}{self.bound:.6g}'

    def is_met(self, value: float | None) -> bool:
        """Return whether a value is good enough; None is not."""
        if value is None:
            return False
        # The bound of a baseline is a difference, of which the last digit is not to be trusted.
        slack = {'>=': _ROUNDING, '<=': -_ROUNDING}.get(self.sign, 0.0) if self.origin else 0.0
        return _SIGNS[self.sign](value + slack, self.bound)

    def told(self, value: float | None) -> str:
        """Say what the value is and which one is required."""
        has = 'has no value' if value is None else f'is {value:.6g}'
        origin = f' ({self.origin})' if self.origin else ''
        return f'{self.metric} {has}, required is {self.sign}{self.bound:.6g}{origin}'


class Case(NamedTuple):
    """A requirement and what became of it."""

    requirement: Requirement
    text: str
    """What the value is, or why there is none."""
    outcome: str = ''
    """As JUnit names it: failure, error or skipped; empty where it is met."""
    bag: str = ''
    """Of which bag of a fleet; empty for all together."""


class Gate:
    """
    What a result of `verb` must reach: `requirements`, and those that `baseline` makes.

    A figure may be worse than in `baseline`, a result of the same data, by `tolerance`. Raise
    DataError and ParameterError for what cannot be required.
    """

    def __init__(self, verb: str, requirements: Iterable[Requirement] = (),
                 baseline: Path | None = None, tolerance: float = TOLERANCE,
                 junit: Path | None = None):
        self._verb, self._junit, self._path = verb, junit, baseline
        self.requirements = list(requirements)
        self._given = [one.metric for one in self.requirements]
        check_number('tolerance', tolerance, ParameterError, low=0)
        for one in self.requirements:
            self._check_share(one)
        self._baseline = baseline and read_result(baseline)
        if self._baseline:
            if verb_of(self._baseline) != verb:
                raise DataError(f'{str(baseline)!r} is of {verb_of(self._baseline)}, and a '
                                f'baseline of {verb} must be too')
            self.requirements += self._held(self._baseline, tolerance)

    @staticmethod
    def add_arguments(parser) -> None:
        """Declare the arguments that `Gate.given` reads."""
        parser.add_argument('--require', action='append', default=[], metavar='METRIC>=N',
                            help='what the result must reach, else the exit code is 3: '
                                 "'miou>=0.60', 'night/iou.person>=0.5', 'latency_p95_ms<=100'; "
                                 'may be given again; docs/evaluation.md has the metrics')
        parser.add_argument('--baseline', type=Path, metavar='OLD.json',
                            help='older result of the same data, than which none may be '
                                 'worse, else the exit code is 3')
        parser.add_argument('--tolerance', type=float, metavar='N',
                            help='how much worse than the baseline is allowed (default: '
                                 f'{TOLERANCE})')
        parser.add_argument('--junit', type=Path, metavar='FILE.xml',
                            help='file with a test case for each requirement, for a CI to show')

    @classmethod
    def given(cls, args, verb: str) -> 'Gate':
        """Return what the command line of `verb` asks for."""
        for name, base in (('tolerance', ['baseline']), ('junit', ['require', 'baseline'])):
            if getattr(args, name) is not None and not any(getattr(args, one) for one in base):
                raise ParameterError(f'--{name} counts for nothing without '
                                     f'{" or ".join(f"--{one}" for one in base)}: give that too')
        requirements = [Requirement.parsed(text) for text in args.require]
        if not args.disagreement and any(one.metric == 'disagreement' for one in requirements):
            raise ParameterError("metric 'disagreement' has no value without --disagreement: give "
                                 'that too')
        tolerance = TOLERANCE if args.tolerance is None else args.tolerance
        return cls(verb, requirements, args.baseline, tolerance, args.junit)

    def __bool__(self):
        return bool(self.requirements)

    def _check_share(self, one):
        try:
            share = metric_of(one.metric).share
        except KeyError:  # told by `check`, with the names that there are
            return
        if share and not 0 <= one.bound <= 1:
            raise ParameterError(f'requirement {str(one)!r} has the bound {one.bound:g}, but '
                                 f'{one.metric} is a share: allowed is 0 to 1')

    def _held(self, facts, tolerance):
        for name, value in metrics(facts).items():
            sign = metric_of(name).held
            if sign and value is not None:
                bound = value - tolerance if sign == '>=' else value + tolerance
                yield Requirement(name, sign, bound, f'{value:.6g} in {str(self._path)!r}, '
                                                     f'tolerance {tolerance:g}')

    def check(self, classes: Iterable[str], parts: Iterable[str] = (),
              swept: Iterable[str] = ()) -> None:
        """Raise ParameterError for a metric that a result with these classes cannot have."""
        check_names(self._given, self._verb, classes, parts, swept)

    def check_data(self, facts: dict) -> None:
        """
        Raise DataError unless a result with `facts` is of the data of the baseline.

        Of an evaluation all frames must be the same; a bag need only give as many messages, as
        pairs that are lost are a matter of the result. Its figures may be missing yet.
        """
        if not self._baseline:
            return
        is_bag = self._verb == 'replay'
        check_same_setting(self._path, self._baseline, facts, ('messages' if is_bag else 'lost',))
        old, new = ({frame['name'] for frame in one['frames']} for one in (self._baseline, facts))
        if not old & new if is_bag else old != new:
            raise DataError(
                f'{str(self._path)!r} is of other data: of its {len(old)} frames {len(old - new)} '
                f'are not among the {len(new)} here; make a new baseline of these, or tell both '
                'apart with rgbx-seg compare')

    def judge(self, facts: dict) -> int:
        """
        Tell on stderr of each requirement that `facts` do not meet, and write the JUnit file.

        Return the exit code: 0 or `FAILED`.
        """
        self.check_data(facts)
        values = metrics(facts)
        return self._close([self._case(one, values.get(one.metric)) for one in self.requirements])

    def crashed(self, error: RgbxSegError) -> int:
        """Tell that there is no result because of `error`: nothing is met. Return `FAILED`."""
        print(f'rgbx-seg: failed: {error}', file=sys.stderr)
        for one in self.requirements:
            print(f'rgbx-seg: failed: {one.told(None)}', file=sys.stderr)
        self._write_junit([Case(one, str(error), 'error') for one in self.requirements])
        return FAILED

    def _case(self, one, value, bag=''):
        return Case(one, one.told(value), '' if one.is_met(value) else 'failure', bag)

    def _close(self, cases):
        """Tell of what has failed, and write the JUnit file; return the exit code."""
        failed = [one for one in cases if one.outcome == 'failure']
        for one in failed:
            print(f'rgbx-seg: failed: {one.bag}{": " * bool(one.bag)}{one.text}', file=sys.stderr)
        self._write_junit(cases)
        if any(one.outcome in ('failure', 'error') for one in cases):
            return FAILED
        if cases:
            print(f'all of {sum(not one.outcome for one in cases)} requirements are met')
        return 0

    def _write_junit(self, cases):
        if self._junit is None:
            return
        kinds = {'failures': 'failure', 'errors': 'error'}
        if any(one.bag for one in cases):
            kinds['skipped'] = 'skipped'
        counts = {name: str(sum(one.outcome == kind for one in cases))
                  for name, kind in kinds.items()}
        root = ElementTree.Element('testsuites')
        root.append(ElementTree.Comment(f' {MARK} '))
        suite = ElementTree.SubElement(root, 'testsuite', name=f'rgbx-seg {self._verb}',
                                       tests=str(len(cases)), **counts)
        for one in cases:
            group = '.'.join(filter(None, ('rgbx-seg', self._verb, one.bag)))
            case = ElementTree.SubElement(suite, 'testcase', name=_xml_text(str(one.requirement)),
                                          classname=group)
            if one.outcome:
                ElementTree.SubElement(case, one.outcome, message=_xml_text(one.text))
        ElementTree.indent(root)
        write_text(self._junit, '<?xml version="1.0" encoding="UTF-8"?>\n'
                   f'{ElementTree.tostring(root, encoding="unicode")}\n')


class FleetGate(Gate):
    """
    The same for the bags of a fleet: all together must reach it, and each by itself.

    A bag without a value, as of a class that it does not show, is passed over; one that could not
    be replayed has failed.
    """

    def __init__(self, verb: str, requirements: Iterable[Requirement] = (),
                 baseline: Path | None = None, tolerance: float = TOLERANCE,
                 junit: Path | None = None):
        super().__init__(verb, requirements, baseline, tolerance, junit)
        self._of_all = list(self.requirements[:len(self._given)])
        if self._baseline and 'bags' not in self._baseline:
            raise DataError(f'{str(baseline)!r} is of one bag, and a baseline of a fleet must be '
                            f'of one: take the results.json of an older run')
        self._of_bag = {bag['name']: [*self._of_all, *self._held(bag, tolerance)]
                        for bag in (self._baseline or {}).get('bags', ())}

    def check_bags(self, names: Iterable[str]) -> None:
        """Raise DataError unless the baseline is of bags with these names."""
        if not self._baseline:
            return
        theirs = {bag['name'] for bag in (*self._baseline['bags'], *self._baseline['failed'])}
        if odd := sorted(theirs ^ {*names}):
            raise DataError(f'{str(self._path)!r} is of other data: {", ".join(odd)} '
                            f'{"are" if len(odd) > 1 else "is"} in one of both alone')

    def check_data(self, facts: dict) -> None:
        """Raise DataError unless the bags are those of the baseline, with as many messages."""
        if not self._baseline:
            return
        self.check_bags(bag['name'] for bag in (*facts['bags'], *facts['failed']))
        old, new = self._baseline, facts
        if old['bags'] and new['bags']:
            check_same_setting(self._path, old, new)
        before = {bag['name']: bag['messages'] for bag in old['bags']}
        for bag in new['bags']:
            if before.get(bag['name'], bag['messages']) != bag['messages']:
                raise DataError(
                    f'{str(self._path)!r} has the messages {before[bag["name"]]!r} of '
                    f'{bag["name"]}, here are {bag["messages"]!r}: take results of the same')

    def judge(self, facts: dict) -> int:
        """
        Tell on stderr what the facts of a fleet do not meet, and write the JUnit file.

        Return the exit code: 0 or `FAILED`.
        """
        self.check_data(facts)
        values = metrics(facts)
        cases = [self._case(one, values.get(one.metric)) for one in self.requirements]
        for bag in facts['bags']:
            values = metrics(bag)
            for one in self._of_bag.get(bag['name'], self._of_all):
                value, is_held = values.get(one.metric), bool(one.origin)
                cases.append(Case(one, one.told(None), 'skipped', bag['name'])
                             if value is None and not is_held
                             else self._case(one, value, bag['name']))
        cases += [Case(one, bag['reason'], 'error', bag['name']) for bag in facts['failed']
                  for one in self._of_bag.get(bag['name'], self._of_all) or self.requirements]
        return self._close(cases)


def _xml_text(text):
    """Return `text` with what no XML can hold escaped, as a name of a file may have it."""
    return _NO_XML.sub(lambda match: ascii(match[0])[1:-1], text)
