"""The training loop of all methods."""
import collections
import contextlib
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol

import minigrad as mg
from minigrad.cuda_graph import NotCapturable
from minigrad.optim import Optimizer

from . import checkpoint
from .classifier import Classifier
from .method import Method
from .run import RunFolder
from .settings import RunError
from .signals import handling

GRAPHS = 4  # that a run captures at most, one for each shape of its batches that comes again: each has memory of its own


class Batches(Protocol):
    """Where batches come from; it is a part of the checkpoint (see `checkpoint.save`)."""

    def sample(self) -> Any:
        """The next batch."""


def train(method: Method, batches: Batches, optimizers: dict[str, Optimizer], steps: int, folder: RunFolder, *,
          schedule: Callable[[int, int], float] | None = None, classifier: Classifier | None = None, save_every: int = 100,
          evaluate: Callable[[int], dict[str, float]] | None = None, evaluate_every: int = 0,
          data: str | None = None) -> None:
    """Trains with a progress bar; logs every 10 steps; a run that is resumed begins at its last checkpoint.

    A line of the log has the step, seconds, the loss, the method's numbers, and `lr`, the largest learning rate by the schedule.

    Ctrl-C, SIGTERM or SIGHUP finishes the step, saves and leaves by SystemExit; a second one leaves at once.

    Args:
        optimizers: by their names in the checkpoint; all take a step in each step.
        steps: in all, those before a resumption included.
        schedule: as `Method.schedule`, instead of the method's.
        classifier: what is trained, to be described in the checkpoint.
        data: the fingerprint of the data (`checkpoint.fingerprint`): a run goes on with the same only.
        evaluate: called every `evaluate_every` steps (0: never) with the number of steps done; its numbers are logged.

    Raises:
        FileExistsError, RunError: the folder cannot be used (see `RunFolder`); RunError: training diverged, as a loss or a
            state is not finite. The last good checkpoint stays.
        TypeError, ValueError: the method's `arguments` are no tuple of trees, its `loss` or `objective` returns no loss with a
            dict; its `steady` names no optimiser.
    """
    if set(method.steady) - set(optimizers):
        raise ValueError(f"{type(method).__name__}.steady: some of {tuple(optimizers)} wanted, the names of the optimisers, got "
                         f"{method.steady!r}")
    learn = _learning(method, optimizers)
    parts, facts = {**method.state(), "batches": batches, **optimizers}, classifier.facts() if classifier else None
    rates = {name: optimizer.lr for name, optimizer in optimizers.items()}
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder.locked())
        start, began = folder.start(parts, data), time.time()
        log = stack.enter_context(open(folder.metrics, "a"))
        bar, stopped = stack.enter_context(progress_bar(steps, start)), stack.enter_context(stop_signals())
        saved = start
        for step in range(start, steps):
            factor = (schedule or method.schedule)(step, steps)
            for name, optimizer in optimizers.items():
                optimizer.lr = rates[name] * (1 if name in method.steady else factor)
            loss, numbers = learn(batches.sample(), step)
            method.after_step(step)

            done, shown = step + 1, {"loss": float(loss), **{k: float(v) for k, v in numbers.items()}}
            if not math.isfinite(shown["loss"]):
                raise _diverged(f"the loss of step {done} is {shown['loss']}", saved, folder)
            bar.update()
            evaluated = evaluate(done) if evaluate and evaluate_every and done % evaluate_every == 0 else {}
            if done % 10 == 0 or done == steps or evaluated:
                bar.set_postfix({k: f"{v:.3f}" for k, v in {**shown, **evaluated}.items()})
                line = {"step": done, "seconds": round(time.time() - began, 2), **shown, "lr": max(rates.values()) * factor}
                print(json.dumps({**line, **evaluated}), file=log, flush=True)
            if done % save_every == 0 or done == steps or stopped:
                try:
                    checkpoint.save(folder.checkpoint, done, parts, facts, data)
                except checkpoint.NotFinite as error:
                    raise _diverged(f"after step {done} {error}", saved, folder) from None
                saved = done
            if stopped:
                alone = folder.resume or getattr(folder.config, "resume", True)  # few_labels and parts go on by themselves
                how = "" if alone else " with --resume"
                with contextlib.suppress(OSError):  # the terminal may be gone
                    print(f"\nstopped after {done} steps; the same command{how} continues", flush=True)
                raise SystemExit(128 + stopped[0])


def _learning(method, optimizers):
    """A function of a batch and the step's number that changes the parameters; it returns the loss and the numbers to log.

    On a GPU it replays the graph of the batch's shapes, unless the method defines its loss in one piece.
    """
    def learn(name, arguments, step):
        loss, numbers = _pair(f"{type(method).__name__}.{name}", getattr(method, name)(*arguments))
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        method.after_backward(step)
        for optimizer in optimizers.values():
            optimizer.step()
        return loss, numbers

    def learn_captured(batch, step):
        arguments = method.arguments(batch, step)
        kinds = _kinds(f"{type(method).__name__}.arguments", arguments)
        if kinds not in graphs and len(graphs) < most:
            if graphs and kinds not in met:
                met.append(kinds)
            else:
                graphs[kinds] = mg.capture(alike)
        try:
            return graphs.get(kinds, alike)(arguments)
        except NotCapturable as error:  # a network of one's own may do anything
            warnings.warn(f"steps take longer, as they are not captured: {error}")
            graphs[kinds] = alike
            return alike(arguments)

    def alike(arguments):
        return learn("objective", arguments, None)

    graphs, met = {}, collections.deque(maxlen=100)  # of kinds; `met` are the last ones that came once
    most = GRAPHS if all([optimizer.kernel for optimizer in optimizers.values()]) else 0  # others cannot be captured
    if type(method).loss is Method.loss:
        return learn_captured
    return lambda batch, step: learn("loss", (batch, step), step)


def _pair(name, found):
    """What a loss function returned. TypeError: that is no Tensor with a dict."""
    parts = found if isinstance(found, tuple) else (found,)
    if not (len(parts) == 2 and isinstance(parts[0], mg.Tensor) and isinstance(parts[1], dict)):
        raise TypeError(f"{name}: a Tensor, the loss, and a dict of numbers to log wanted, got "
                        f"{' and '.join(type(part).__name__ for part in parts) or 'nothing'}")
    return parts


def _kinds(name, arguments):
    """What the arguments of steps have in common that one graph can stand for: shapes and dtypes, and the numbers themselves."""
    if not isinstance(arguments, tuple):
        raise TypeError(f"{name}: a tuple wanted, the arguments of objective(), got {type(arguments).__name__}")
    kinds = []
    for x in mg.tree.leaves(arguments):
        if not (hasattr(x, "shape") or isinstance(x, Hashable)):
            raise TypeError(f"{name}: Tensors, arrays and numbers in tuples, lists and dicts wanted, got {type(x).__name__}")
        kinds.append((x.shape, x.dtype) if hasattr(x, "shape") else x)
    return tuple(kinds)


def _diverged(reason, saved, folder):
    last = f"the checkpoint after step {saved} is in {folder.path}" if saved else "there is no checkpoint yet"
    return RunError(f"training diverged: {reason}; choose a smaller learning rate (--lr) and another --out; {last}")


def progress_bar(steps: int, start: int = 0) -> Any:
    """tqdm's bar on standard error; where that is no terminal, a line every 15 seconds, and where it is closed, nothing."""
    from tqdm import tqdm
    error = sys.stderr
    return tqdm(total=steps, initial=start, unit="step", mininterval=0.2 if error and error.isatty() else 15, disable=not error)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that the first SIGINT (Ctrl-C), SIGTERM or SIGHUP inside fills instead of interrupting.

    Half a step cannot be resumed.
    """
    received: list[int] = []

    def note(number, frame):
        if received:
            raise KeyboardInterrupt
        received.append(number)

    with handling(("SIGINT", "SIGTERM", "SIGHUP"), note):
        yield received
