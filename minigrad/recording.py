"""Whether operations are recorded on the graph, and who observes them. Per thread."""
import contextlib
import functools
import itertools
import os
import sys
import threading

next_event = itertools.count(1).__next__  # numbers recorded operations and changes in place in the order in which they happen
_PACKAGE = os.path.dirname(__file__) + os.sep


class State(threading.local):
    recording = True  # are operations recorded on the graph?
    observers = ()  # see `observing`
    rule_of = None  # the operation whose gradient rule runs and is recorded: it must not leave the Tensors


state = State()


@contextlib.contextmanager
def recording(on):
    """Operations inside are recorded on the graph (or, with False, are not). Per thread."""
    before = state.recording, state.rule_of
    state.recording, state.rule_of = on, None
    try:
        yield
    finally:
        state.recording, state.rule_of = before


def no_grad() -> contextlib.AbstractContextManager:
    """Context manager and decorator: operations inside build no graph."""
    return recording(False)


def enable_grad() -> contextlib.AbstractContextManager:
    """Context manager and decorator: operations inside build the graph again, within a `no_grad()`."""
    return recording(True)


def is_recording():
    """Whether operations on this thread are recorded on the graph."""
    return state.recording


@contextlib.contextmanager
def observing(observer):
    """Calls `observer(phase, op, inputs, run, where)` around every operation inside, and inside their gradient rules.

    `phase` is "forward" or "backward"; `run()` does the work and returns its result, which the observer must return;
    `where` is the "file:line" outside this package that called the operation.
    """
    before, state.observers = state.observers, (*state.observers, observer)
    try:
        yield observer
    finally:
        state.observers = before


def observed(phase, op, inputs, run, where):
    for observer in state.observers:
        run = functools.partial(observer, phase, op, inputs, run, where)
    return run()


def caller():
    """'file:line' of the innermost frame outside this package; None while nobody observes."""
    if not state.observers:
        return None
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
