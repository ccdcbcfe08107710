"""A run folder: config.json, metrics.jsonl, checkpoint.safetensors and figures."""
import json
import os
import pathlib
from typing import Any

from . import checkpoint
from .settings import RunError, record


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file under another name and renames it: a kill leaves the old contents or the new ones, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(part, path)


class RunFolder:
    """The folder of one run. Nothing is written before training starts.

    Args:
        out: the folder.
        config: the run's dataclass.
        resume: go on with the run that is there.

    Raises:
        FileExistsError: the folder holds another run and `resume` is false; RunError: its configuration differs.
    """

    def __init__(self, out: str | os.PathLike, config: Any, resume: bool):
        self.path, self.resume, self.config = pathlib.Path(out), resume, record(config)
        self.checkpoint, self.metrics = self.path / "checkpoint.safetensors", self.path / "metrics.jsonl"
        settings = self.path / "config.json"
        if self.checkpoint.exists() and not resume:
            raise FileExistsError(f"{out} holds a run; continue it with --resume, or choose another --out")
        if self.checkpoint.exists() and settings.exists() and (old := json.loads(settings.read_text())) != self.config:
            changed = [k for k in {**old, **self.config} if old.get(k) != self.config.get(k)]
            raise RunError(f"the run in {out} was made with other settings: {', '.join(changed)}")

    def start(self, parts: dict[str, Any]) -> int:
        """Writes the configuration, and on resuming puts back the last checkpoint and forgets what was logged after it.

        Returns:
            the number of steps that are done.
        Raises:
            RunError: the checkpoint is damaged or another method's.
        """
        write_whole(self.path / "config.json", json.dumps(self.config, indent=1))
        resumed = self.resume and self.checkpoint.exists()
        try:
            done = checkpoint.restore(self.checkpoint, parts) if resumed else 0
        except ValueError as error:
            raise RunError(str(error)) from error
        write_whole(self.metrics, "".join(json.dumps(m) + "\n" for m in self.history() if m["step"] <= done))
        return done

    def history(self) -> list[dict[str, float]]:
        """The logged metrics, a dict for each line."""
        lines = self.metrics.read_text().splitlines() if self.metrics.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]
