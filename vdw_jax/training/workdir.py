"""The folder of one run: one process at a time, and the settings and data of what lies in it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vdw_jax.training.devices import in_any_process, is_main
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.settings import SECTIONS, differing

CONFIG_NAME = "config.json"
LOCK_NAME = ".lock"

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems say that know no locks."""


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Within it, no other run works in `workdir`; several processes of one distributed run are one run.

    The system releases the lock when the process ends, however it ends. On file systems without locks the file says
    whether the process that wrote it still lives.

    Raises:
      ConfigError: another run has the folder.
    """
    path = workdir / LOCK_NAME
    file, holder = None, ""
    if is_main():
        file = path.open("a+", encoding="utf-8")
        holder = _take(file)
    try:
        # All processes of a run ask, so that none goes on alone.
        if in_any_process(bool(holder)):
            raise ConfigError(
                f"another run works in {workdir}{holder}; wait for its end or choose another --workdir"
            )
        if file is not None:
            _write(file)
        yield
    finally:
        if file is not None:
            if not holder:
                file.truncate(0)
            file.close()


def _take(file: Any) -> str:
    """Locks the file; "", or who has it, in words."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return ""
    except OSError as error:
        who = _holder(file)
        if error.errno not in _NO_LOCKS:
            return f" ({who['host']}, process {who['pid']}, since {who['since']})" if who else " (another process)"
    if not who or (who["host"] == socket.gethostname() and not _lives(who["pid"])):
        return ""
    return (
        f" ({who['host']}, process {who['pid']}; if it does not live any more, delete {file.name})"
    )


def _holder(file: Any) -> dict[str, Any] | None:
    file.seek(0)
    try:
        who = json.loads(file.read(10_000))
        return {"host": str(who["host"]), "pid": int(who["pid"]), "since": str(who["since"])}
    except (ValueError, KeyError, TypeError):
        return None


def _write(file: Any) -> None:
    file.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
    file.flush()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def recorded(workdir: Path) -> dict[str, Any] | None:
    """What `config.json` says of the run in a folder; None where there is none that can be read."""
    try:
        facts = json.loads((workdir / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and isinstance(facts.get("config"), dict) else None


def check_same_run(workdir: Path, facts: Mapping[str, Any], *, has_second_stage: bool) -> None:
    """That settings and data are those of the checkpoints in `workdir`.

    Args:
      facts: of this run; its "config", "data_hash" and "num_structures" are compared.
      has_second_stage: whether there are checkpoints of the second stage; without, its settings may be others.

    Raises:
      ConfigError: something differs; the message names each, with the value there and here.
    """
    there = recorded(workdir)
    if there is None:
        raise ConfigError(
            f"{workdir / CONFIG_NAME} is missing or damaged, so that settings and data of the checkpoints are not "
            "known; go on all the same with --allow_changes"
        )
    here = json.loads(json.dumps(facts))
    skipped = () if has_second_stage else ("generator", *SECTIONS.values())
    lines = differing(there["config"], here["config"], skip_sections=skipped)
    # Settings of the generator that is not chosen change nothing.
    unused = [section for kind, section in SECTIONS.items() if kind != here["config"]["generator"]]
    lines = [line for line in lines if line.split(".")[0] not in unused]
    if there.get("data_hash") != here["data_hash"]:
        sizes = (there.get("num_structures", "unknown number of"), here["num_structures"])
        hashes = (str(there.get("data_hash"))[:12], here["data_hash"][:12])
        lines.append(
            f"data: {sizes[0]} structures, hash {hashes[0]} -> {sizes[1]} structures, hash {hashes[1]}"
        )
    if lines:
        raise ConfigError(
            f"the checkpoints in {workdir} are of other settings or data (there -> here):\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nChoose another --workdir, or go on all the same with --allow_changes"
        )
