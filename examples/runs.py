"""What the examples share: a run folder with configuration, metrics, checkpoint, and a training loop that resumes."""
import dataclasses
import json
import pathlib
import time

from minigrad import io
from minigrad.backend import random


class RunFolder:
    """The folder `out` of one run: config.json, metrics.jsonl, checkpoint.safetensors and figures.

    Raises:
        FileExistsError: the folder holds another run and `resume` is false; ValueError: its configuration differs.
    """

    def __init__(self, out, config, resume):
        self.path = pathlib.Path(out)
        self.checkpoint, self.metrics, facts = self.path / "checkpoint.safetensors", self.path / "metrics.jsonl", self.path / "config.json"
        # the data folder may have moved, and a run may be prolonged
        wanted = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("resume", "out", "steps", "data", "device", "episodes", "lake")}
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

    def save(self, step, net, optimizer, sampler, rng):
        """A checkpoint from which training goes on to the same bits."""
        arrays = {f"net.{k}": v for k, v in net.state_dict().items()} | {f"opt.{k}": v for k, v in optimizer.state_dict().items()}
        io.save(self.checkpoint, arrays, {"step": step, "sampler": sampler.state_dict(), "rng": rng.bit_generator.state,
                                          "global": random.get_state()})

    def restore(self, net, optimizer, sampler, rng):
        """Puts back the last checkpoint, forgets what was logged after it, and returns its step; 0 if there is none."""
        if not self.checkpoint.exists():
            return 0
        arrays, facts = io.load(self.checkpoint)
        net.load_state_dict({k[4:]: v for k, v in arrays.items() if k.startswith("net.")})
        optimizer.load_state_dict({k[4:]: v for k, v in arrays.items() if k.startswith("opt.")})
        sampler.load_state_dict(facts["sampler"])
        rng.bit_generator.state = facts["rng"]
        random.set_state(facts["global"])
        kept = [json.dumps(m) for m in self.history() if m["step"] <= facts["step"]]
        self.metrics.write_text("".join(line + "\n" for line in kept))
        return facts["step"]

    def train(self, steps, step, save, start=0, every=100):
        """Calls `step(i)` -> dict of numbers for i from `start`, with a progress bar; logs, and saves every so many steps.

        Ctrl-C saves and leaves by KeyboardInterrupt.
        """
        from tqdm import tqdm
        done, began = start, time.time()
        with open(self.metrics, "a") as log, tqdm(total=steps, initial=start, unit="episode") as bar:
            try:
                for i in range(start, steps):
                    numbers = step(i)
                    done = i + 1
                    bar.update()
                    if done % 10 == 0 or done == steps:
                        bar.set_postfix({k: f"{v:.3f}" for k, v in numbers.items() if k != "lr"})
                        print(json.dumps({"step": done, "seconds": round(time.time() - began, 2), **numbers}), file=log, flush=True)
                    if done % every == 0 or done == steps:
                        save(done)
            except KeyboardInterrupt:
                save(done)
                print(f"\nstopped after {done} steps; continue with --resume --out {self.path}")
                raise SystemExit(130) from None
