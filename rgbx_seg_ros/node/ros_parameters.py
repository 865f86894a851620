# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`Parameters` as the parameters of a ROS 2 node: declared, read, and watched at run time."""

from dataclasses import fields

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.fields import unknown_name
from rgbx_seg_ros.parameters import Parameters

_ROS_OWN = ('use_sim_time', 'start_type_description_service', 'qos_overrides')
_SPECS = {spec.metadata['name']: spec for spec in fields(Parameters)}


class NodeParameters:
    """
    The parameters of `node`.

    `current` is what they are while the node is configured, else None. `changed(parameters)` is
    called whenever some of those that may change at run time have; it may refuse by a
    ParameterError.
    """

    def __init__(self, node, changed):
        self._node, self._changed = node, changed
        self._refused = {}
        self.current: Parameters | None = None
        for name in _SPECS:
            self._declare(name)
        node.add_on_set_parameters_callback(self._set)

    def _declare(self, name):
        spec = _SPECS[name]
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
        default = Parameters().to_ros()[name]
        try:
            self._node.declare_parameter(name, default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException):
            # Kept for configure, whose failure a lifecycle manager sees and can mend.
            self._refused[name] = self._given()[name].value
            self._node.declare_parameter(name, default, descriptor, True)

    def _given(self):
        """Return the parameters given on the command line and in files, declared or not."""
        return getattr(self._node, '_parameter_overrides', {})

    def read(self) -> Parameters:
        """Return the parameters as they are set; raise ParameterError for a bad or unknown one."""
        for name in self._given():
            if name not in _SPECS and name.partition('.')[0] not in _ROS_OWN:
                raise ParameterError(f'parameter {unknown_name(name, _SPECS)}')
        values = {name: self._node.get_parameter(name).value for name in _SPECS}
        return Parameters.from_ros({**values, **self._refused})

    def _set(self, changes):
        """Check parameters that are set from outside; take those that count at once."""
        changes = {p.name: p.value for p in changes if p.name in _SPECS}
        try:
            if self.current is not None:
                for name in changes:
                    if not _SPECS[name].metadata['runtime']:
                        raise ParameterError(f'parameter {name!r} is fixed while the node is '
                                             'configured: deactivate and clean up first')
            checked = Parameters.from_ros({**(self.current or Parameters()).to_ros(), **changes})
            if self.current is not None:
                self._changed(checked)
                self.current = checked
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for name in changes:
            self._refused.pop(name, None)
        return SetParametersResult(successful=True)
