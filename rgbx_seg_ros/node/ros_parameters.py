# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A `ParameterSet` as parameters of a ROS 2 node: declared, read, and watched at run time."""

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.fields import unknown_name
from rgbx_seg_ros.parameters import Parameters, ParameterSet, ROS_OWN


class NodeParameters:
    """
    The parameters of `node`, those of `kind`.

    `run()` returns what the node has made of them while it is configured, else None. Those that
    may change at run time then are assigned to its `parameters`.
    """

    def __init__(self, node, run, kind: type[ParameterSet] = Parameters):
        self._node, self._run, self._kind = node, run, kind
        self._specs = kind.specs()
        self._refused = {}
        # By no public name does rclpy tell of parameters that nobody declares.
        self._given = node._parameter_overrides
        for name in self._specs:
            self._declare(name)
        node.add_on_set_parameters_callback(self._set)

    def _declare(self, name):
        spec = self._specs[name]
        facts = spec.metadata
        # Dynamic typing lets an int stand for a double; the type is checked by Parameters.
        descriptor = ParameterDescriptor(
            description=facts['doc'], dynamic_typing=True,
            additional_constraints=', '.join(facts['allowed'] or ()))
        if isinstance(spec.default, int) and facts['low'] is not None:
            descriptor.integer_range = [
                IntegerRange(from_value=facts['low'], to_value=facts['high'])]
        elif facts['low'] is not None:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=facts['low'], to_value=facts['high'])]
        default = self._kind().to_ros()[name]
        try:
            self._node.declare_parameter(name, default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException):
            # Kept for configure, whose failure a lifecycle manager sees and can mend.
            self._refused[name] = self._given[name].value
            self._node.declare_parameter(name, default, descriptor, True)

    def read(self) -> ParameterSet:
        """Return the parameters as they are set; raise ParameterError for a bad or unknown one."""
        for name in self._given:
            if name not in self._specs and name.partition('.')[0] not in ROS_OWN:
                raise ParameterError(f'parameter {unknown_name(name, self._specs)}')
        values = {name: self._node.get_parameter(name).value for name in self._specs}
        return self._kind.from_ros({**values, **self._refused})

    def _set(self, changes):
        """Check parameters that are set from outside; take those that count at once."""
        changes = {p.name: p.value for p in changes if p.name in self._specs}
        run = self._run()
        try:
            if run is None:
                # One by one, so that they may come in any order: configure looks at all of them.
                self._kind.check(changes)
            else:
                for name in changes:
                    if not self._specs[name].metadata['runtime']:
                        raise ParameterError(f'parameter {name!r} is fixed while the node is '
                                             'configured: deactivate and clean up first')
                run.parameters = self._kind.from_ros({**run.parameters.to_ros(), **changes})
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for name in changes:
            self._refused.pop(name, None)
        return SetParametersResult(successful=True)
