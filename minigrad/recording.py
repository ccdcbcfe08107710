"""Whether operations are recorded on the graph, and who observes them. Per thread."""
import contextlib
import functools
import inspect
import itertools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

next_event = itertools.count(1).__next__  # numbers recorded operations and changes in place in the order in which they happen
_PACKAGE = os.path.dirname(__file__) + os.sep


class State(threading.local):
    def __init__(self):
        self.around = []  # what `recording` contexts found, the outermost first

    recording = True  # are operations recorded on the graph?
    observers = ()  # see `observing`
    rule_of = None  # the operation whose gradient rule runs and is recorded: it must not leave the Tensors
    reading = None  # see `reading`
    called = None  # who is told of each Module's call and what it returned: see `inspect.activations`
    repeatable = False  # does a function run that will run again, so that what it begins with must stay?
    recomputing = False  # does a function run again whose effects were had before?


state = State()


class recording(contextlib.ContextDecorator):
    """Operations inside are recorded on the graph (or, with False, are not). Per thread; a context and a decorator."""

    def __init__(self, on: bool):
        self.on = on

    def __enter__(self):
        state.around.append((self, state.recording, state.rule_of))
        state.recording, state.rule_of = self.on, None

    def __exit__(self, *error):
        around = state.around
        for i in reversed(range(len(around))):
            if around[i][0] is self:
                _, *before = around.pop(i)
                state.recording, state.rule_of = before
                if i < len(around):  # what was entered later and is not left yet, as by a suspended generator, leads there too
                    around[i] = around[i][0], *before
                return  # else another thread entered, as with a generator that is finished here

    def _recreate_cm(self):
        return recording(self.on)

    def __call__(self, function):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            name = getattr(function, "__name__", "what it decorates")
            raise TypeError(f"{'enable' if self.on else 'no'}_grad: {name} is asynchronous and would run after its end: use the "
                            "context inside it, around what does not await")
        if not inspect.isgeneratorfunction(function):
            return super().__call__(function)

        @functools.wraps(function)
        def generate(*args, **settings):  # each stretch between two values runs inside, what the caller does does not
            generator = function(*args, **settings)
            resume, given = generator.send, None
            while True:
                try:
                    with recording(self.on):
                        value = resume(given)
                except StopIteration as end:
                    return end.value
                finally:
                    given = None  # an error that was thrown in refers to this frame, and with it to all that is held here
                try:
                    resume, given = generator.send, (yield value)
                except BaseException as error:  # thrown in, as by `contextlib.contextmanager`, or GeneratorExit
                    resume, given = generator.throw, error

        return generate


def no_grad(function: Callable | None = None) -> Any:
    """Context manager and decorator, `@no_grad` or `@no_grad()`: operations inside build no graph."""
    return _around(False, function)


def enable_grad(function: Callable | None = None) -> Any:
    """Context manager and decorator: operations inside build the graph again, within a `no_grad()`."""
    return _around(True, function)


def _around(on, function):
    if function is not None and not callable(function):
        raise TypeError(f"{'enable' if on else 'no'}_grad: what it decorates is a function, not {type(function).__name__}")
    return recording(on) if function is None else recording(on)(function)


@contextlib.contextmanager
def during(name):
    """Inside, the flag of `state` of this name, "repeatable" or "recomputing", is true."""
    before = getattr(state, name)
    setattr(state, name, True)
    try:
        yield
    finally:
        setattr(state, name, before)


class reading:
    """A context that knows by which `way`, such as ".item()", values of a Tensor with a gradient were last read inside."""

    def __enter__(self):
        self.way, self.around, state.reading = None, state.reading, self
        return self

    def __exit__(self, *error):
        state.reading = self.around
        if self.around is not None and self.way is not None:
            self.around.way = self.way


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
    """The result of `run`, around which all observers are called, the newest outermost. Arguments as in `observing`."""
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


def whose(x, known=""):
    """'linear: weight: ' of what a function of this package on the stack was given as `weight`, the outermost that passed it on;
    `known` if there is none."""
    frame, found = sys._getframe(2), known
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        if frame.f_code.co_name[0] not in "_<":  # < as in <lambda>
            argument = _argument(frame, x)
            if argument is None and found != known:
                break
            found = argument or found
        frame = frame.f_back
    return found


def _argument(frame, x):
    """'linear: weight: ' if a frame's function was given `x` as `weight`, 'stack: tensors[1]: ' if it stands in that, or None."""
    code, values = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
    given = {name: values[name] for name in code.co_varnames[:count] if name in values}
    of = type(given["self"]).__name__ if next(iter(given), "") == "self" else code.co_name
    inside = ((f"{name}[{i}]", item) for name, several in given.items() if isinstance(several, (list, tuple))
              for i, item in enumerate(several))
    return next((f"{of}: {name}: " for name, value in itertools.chain(given.items(), inside) if value is x), None)
