"""Curves of a run: one JSON object a line in `metrics.jsonl`, and the same for TensorBoard."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from tensorboardX import SummaryWriter

FILE_NAME = "metrics.jsonl"


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every whole line of a run's `metrics.jsonl`, in order; a line cut short by a kill is left out."""
    path = Path(workdir) / FILE_NAME
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "step" in record:
            records.append(record)
    return records


class MetricsLog:
    """Appends scalars by step, each line on disk when `write` returns.

    Args:
      workdir: of the run; made if missing.
      resume_step: the step training continues from. Lines of later steps are dropped, for they will be
        written again. The default drops all: a run from the start.
      tensorboard: also write event files under `workdir/tensorboard`.
      silent: write nothing at all; for all but one of several processes.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        resume_step: int = -1,
        tensorboard: bool = True,
        silent: bool = False,
    ) -> None:
        self._workdir = Path(workdir)
        self._file: TextIO | None = None
        self._writer: SummaryWriter | None = None
        if silent:
            return
        self._workdir.mkdir(parents=True, exist_ok=True)
        path = self._workdir / FILE_NAME
        kept = [record for record in read_metrics(workdir) if record["step"] <= resume_step]
        scratch = path.with_name(f".{FILE_NAME}.tmp")
        scratch.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        scratch.replace(path)
        self._file = path.open("a", encoding="utf-8")
        if tensorboard:
            self._writer = SummaryWriter(str(self._workdir / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes scalars of one step; those that are not finite become null in the file."""
        if self._file is None:
            return
        values = {name: float(value) for name, value in metrics.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        record = {"step": int(step), "time_s": round(time.time(), 3), **finite}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, int(step))

    def close(self) -> None:
        """Closes the files; harmless to call twice."""
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._writer.close()
        self._file = self._writer = None

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
