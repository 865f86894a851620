# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the nodes of the package have in common: the states of a lifecycle, and a process."""

import functools
import gc
import os
import signal
import sys
import time
import traceback
import warnings

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.signals import install_signal_handlers, SignalHandlerOptions
from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.errors import lacking, RgbxSegError
from rgbx_seg_ros.node.ros_parameters import NodeParameters
from rgbx_seg_ros.parameters import ParameterSet
from rgbx_seg_ros.resources import use_fastdds_profile
from rgbx_seg_ros.waiting import wait_without_spinning

_WAKE_S = 1.0
_REPEAT_WARNING_S = 10.0


def _logged(transition):
    """Log what a transition raises: rclpy turns it into ERROR without a word."""
    @functools.wraps(transition)
    def logged(node, state):
        try:
            return transition(node, state)
        except RgbxSegError as error:
            node.get_logger().error(f'{transition.__name__} failed: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and (message := lacking(error)):
                node.get_logger().error(f'{transition.__name__} failed: {message}')
                return TransitionCallbackReturn.FAILURE
            if node.context.ok():
                node.get_logger().error(f'{transition.__name__}: {traceback.format_exc()}')
            raise
    return logged


class RunNode(LifecycleNode):
    """
    A lifecycle node with the parameters of `kind`.

    configure reads these and makes a run of them: `make_run(node, parameters, warn)`. activate
    lets it `start`, to subscribe and publish, and deactivate `stop`; cleanup lets it `close`.
    `warn(kind, text)` logs a warning, one of a kind now and then.
    """

    def __init__(self, kind: type[ParameterSet], make_run, **node_arguments):
        # First, since a context that is shut down destroys a node that is only half made as well.
        self._run, self._make_run = None, make_run
        super().__init__(kind.NODE_NAME, **node_arguments)
        # A signal wakes the executor first and ends the context then. One that is asleep again by
        # that time needs something else to wake it, which an idle node has not.
        self.create_timer(_WAKE_S, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._warned = {}
        self._options = NodeParameters(self, lambda: self._run, kind)

    def start(self) -> bool:
        """Configure and activate unless `autostart` is off; return whether that went well."""
        if self.get_parameter('autostart').value is False:
            return True
        return (self.trigger_configure() == TransitionCallbackReturn.SUCCESS
                and self.trigger_activate() == TransitionCallbackReturn.SUCCESS)

    @_logged
    def on_configure(self, state):
        """Read the parameters and offer the topics; or leave all as it was."""
        parameters = self._options.read()
        if parameters.tune_allocator:
            keep_freed_memory()
        self._run = self._make_run(self, parameters, self._warn)
        self.get_logger().info(self._run.summary)
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_activate(self, state):
        """Subscribe and start to publish."""
        self._run.start()
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_deactivate(self, state):
        """Finish what is in work and unsubscribe."""
        self._run.stop()
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_cleanup(self, state):
        """Free what is large and take the topics back."""
        run, self._run = self._run, None
        if run is not None:
            run.close()
            # A model that refers to itself would stay in memory beside the next one.
            gc.collect()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state):
        """Free everything, from whatever state."""
        return self.on_cleanup(state)

    def on_error(self, state):
        """Free everything, so that the node can be configured again."""
        return self.on_cleanup(state)

    def destroy_node(self):
        """Stop the worker before the middleware goes away under it."""
        run, self._run = self._run, None
        if run is not None:
            run.stop()
        super().destroy_node()

    def _warn(self, kind, text):
        """Log a warning, but one of a kind only now and then."""
        now = time.monotonic()
        if now - self._warned.get(kind, -_REPEAT_WARNING_S) >= _REPEAT_WARNING_S:
            self._warned[kind] = now
            self.get_logger().warning(text)


def spin_process(make_node, program: str, args=None) -> int:
    """
    Run the RunNode that `make_node` returns until it is interrupted, in a process of its own.

    Return 0, or 2 if it could not start: `program` then says why.
    """
    use_fastdds_profile(os.environ)
    wait_without_spinning(os.environ)
    # Until the node is up a signal is only noted: rclpy's handlers would take the context away
    # under a transition, and an exception would end the process where it came upon C++.
    arrived = []
    _handle_signals(lambda number, _: arrived.append(number))
    node = None
    try:
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:  # an argument it cannot read, a log folder it cannot write
            print(f'{program}: error: ROS does not start: {error}', file=sys.stderr)
            return 2
        node = make_node()
        # An engine that falls back to another one warns, whenever it does; so does a model.
        warnings.showwarning = lambda message, *_, **__: node.get_logger().warning(str(message))
        if not arrived and not node.start():
            return 2
        install_signal_handlers()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if not arrived:
            executor.spin()
    except ExternalShutdownException:
        pass
    except Exception:
        # After a signal the context is gone, and whatever was at work fails in its own way.
        if rclpy.ok():
            raise
    finally:
        # Launch repeats the terminal's signal; a second one must not break the clean-up.
        _handle_signals(signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _handle_signals(handler):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
