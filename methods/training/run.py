"""What the examples share: a run folder with configuration, metrics, checkpoint, and a training loop that resumes."""
import contextlib
import dataclasses
import json
import pathlib
import signal
import sys
import threading
import time

import numpy as np

from minigrad import io
from minigrad.backend import random


def settings(config, free):
    """The fields of a dataclass as JSON gives them back, but for those in `free`, which may differ when a run goes on."""
    return json.loads(json.dumps({k: v for k, v in dataclasses.asdict(config).items() if k not in free}))


class RunFolder:
    """The folder `out` of one run: config.json, metrics.jsonl, checkpoint.safetensors and figures.

    Raises:
        FileExistsError: the folder holds another run and `resume` is false; ValueError: its configuration differs.
    """

    def __init__(self, out, config, resume):
        self.path = pathlib.Path(out)
        self.checkpoint, self.metrics = self.path / "checkpoint.safetensors", self.path / "metrics.jsonl"
        facts = self.path / "config.json"
        wanted = settings(config, ("resume", "out", "steps", "data", "device", "episodes", "lake"))  # data move, runs are prolonged
        if self.checkpoint.exists() and not resume:
            raise FileExistsError(f"{out} holds a run; continue it with --resume, or choose another --out")
        if resume and facts.exists() and (old := json.loads(facts.read_text())) != wanted:
            changed = [k for k in wanted if old.get(k) != wanted[k]]
            raise ValueError(f"the run in {out} was made with other settings: {', '.join(changed)}")
        self.path.mkdir(parents=True, exist_ok=True)
        facts.write_text(json.dumps(wanted, indent=1))
        if not resume:
            self.metrics.write_text("")

    def history(self):
        """The logged metrics, a list of dicts."""
        lines = self.metrics.read_text().splitlines() if self.metrics.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def save(self, step, **parts):
        """A checkpoint from which training goes on to the same bits.

        A part is anything with `state_dict()` (a module, an optimiser, a sampler), a dict of Tensors, or a NumPy Generator.
        """
        arrays, facts = {}, {"step": step, "global": random.get_state()}
        for name, part in parts.items():
            state = _state(part)
            if all(hasattr(value, "shape") for value in state.values()):
                arrays.update((f"{name}.{key}", value) for key, value in state.items())
            else:
                facts[name] = state
        io.save(self.checkpoint, arrays, facts)

    def restore(self, **parts):
        """Puts back the last checkpoint, forgets what was logged after it, and returns its step; 0 if there is none."""
        if not self.checkpoint.exists():
            self.metrics.write_text("")
            return 0
        arrays, facts = io.load(self.checkpoint)
        for name, part in parts.items():
            prefix = name + "."
            _restore(part, facts[name] if name in facts else
                     {k[len(prefix):]: v for k, v in arrays.items() if k.startswith(prefix)})
        random.set_state(facts["global"])
        kept = [json.dumps(m) for m in self.history() if m["step"] <= facts["step"]]
        rewritten = self.metrics.with_suffix(".part")  # a kill in between must not lose the log
        rewritten.write_text("".join(line + "\n" for line in kept))
        rewritten.replace(self.metrics)
        return facts["step"]

    def train(self, steps, step, every=100, resume=False, **parts):
        """Calls `step(i)` -> dict of numbers for each i, with a progress bar; logs, and saves `parts` every so many steps.

        With `resume` it begins where the last checkpoint was made. Ctrl-C finishes the step, saves and leaves by
        SystemExit; a second one leaves at once.
        """
        start = self.restore(**parts) if resume else 0
        began = time.time()
        with open(self.metrics, "a") as log, self._bar(steps, start) as bar, _ctrl_c() as pressed:
            for i in range(start, steps):
                numbers = step(i)
                done = i + 1
                bar.update()
                if done % 10 == 0 or done == steps:
                    bar.set_postfix({k: f"{v:.3f}" for k, v in numbers.items() if k != "lr"})
                    line = {"step": done, "seconds": round(time.time() - began, 2), **numbers}
                    print(json.dumps(line), file=log, flush=True)
                if done % every == 0 or done == steps or pressed:
                    self.save(done, **parts)
                if pressed:
                    print(f"\nstopped after {done} steps; continue with --resume --out {self.path}")
                    raise SystemExit(130)

    @staticmethod
    def _bar(steps, start):
        from tqdm import tqdm
        return tqdm(total=steps, initial=start, unit="step", mininterval=0.2 if sys.stderr.isatty() else 15)

    def draw(self, name, keys, x, labels):
        """The logged metrics `keys` over the steps, side by side, as the figure `name` in the folder."""
        import matplotlib
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
        history = self.history()
        figure, axes = plt.subplots(1, len(keys), figsize=(4.5 * len(keys), 3.4), squeeze=False)
        for axis, key, label in zip(axes[0], keys, labels):
            axis.plot([m["step"] for m in history], [m[key] for m in history])
            axis.set(xlabel=x, ylabel=label)
            axis.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(self.path / name, dpi=150)
        plt.close(figure)


def _state(part):
    if isinstance(part, dict):
        return {k: v.numpy() for k, v in part.items()}
    return part.bit_generator.state if isinstance(part, np.random.Generator) else part.state_dict()


def _restore(part, state):
    if isinstance(part, dict):
        for k, v in part.items():
            v.data = state[k]
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = state
    else:
        part.load_state_dict(state)


@contextlib.contextmanager
def _ctrl_c():
    """A list that the first Ctrl-C inside fills instead of interrupting: half a step could not be resumed."""
    pressed = []

    def note(number, frame):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield pressed
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
