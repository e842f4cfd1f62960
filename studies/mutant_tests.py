"""Runs the tests of one file in a copy of the tree, with one thread and limits of time and memory."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from studies.mutant_list import ROOT, TESTS

NEEDED = ("vdw_jax", "tests", "configs", "setup.cfg", "pyproject.toml")
"""What a copy of the tree holds. Weights that ship stay out of it."""

MEMORY_LIMIT = 16 * 2**30
"""Bytes of addresses a test run may use: a mutant may ask for an array of any size."""

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a test run came to."""

    outcome: str
    """'survived', 'killed', 'timeout' or 'error' (no test ran)."""
    seconds: float
    test: str
    """The first that failed."""


class Stopped(Exception):
    """The tests were ended before they were done."""


def copy_tree(target: Path) -> None:
    """What the tests need, with compiled files that hold for the unchanged sources only."""
    target.mkdir()
    weights = ROOT / "vdw_jax" / "pretrained"

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {
            name
            for name in names
            if name == "__pycache__" or (Path(folder) == weights and (weights / name).is_dir())
        }

    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, target / name)
    # By content, not by date: a mutant as long as the original, made in the same second, is compiled anew.
    command = [
        sys.executable,
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode=checked-hash",
        "vdw_jax",
        "configs",
    ]
    subprocess.run(command, cwd=target, check=True)


def run_tests(tree: Path, tests: Iterable[str], limit_s: float, stop: threading.Event) -> Outcome:
    """The tests of one copy of the tree, up to the first that fails.

    Raises:
      Stopped: `stop` was set.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip(),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    # No `-p no:...` for plugins: none is loaded. `strict` markers and paths come from pyproject.toml.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "--no-header",
        *tests,
    ]
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=tree,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        try:
            while process.poll() is None:
                if stop.wait(0.1):
                    raise Stopped
                if time.monotonic() - start > limit_s:
                    return Outcome("timeout", round(limit_s, 1), "")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        text = output.read()
    return outcome_of(process.returncode, text, round(time.monotonic() - start, 1))


def outcome_of(status: int, text: str, seconds: float) -> Outcome:
    """Of pytest's exit status and output. A crash is noticed, so it kills; that nothing ran does not."""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    if status == 0:
        return Outcome("survived", seconds, "")
    if status in (1, 2) and failed:
        return Outcome("killed", seconds, failed[1])
    if status < 0:
        return Outcome("killed", seconds, f"signal {-status}")
    return Outcome("error", seconds, text[-2000:])


def compilation_cache() -> Path:
    """Shared by all runs: entries are found by the whole program, so that a mutant never gets another's."""
    default = Path(tempfile.gettempdir()) / "vdw_jax-mutants-cache"
    return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", default))


def check_baseline(
    tree: Path, files: Iterable[str], workers: int, stop: threading.Event
) -> dict[str, float]:
    """Seconds that the unchanged tests of each file take, the second time, when nothing is compiled anew.

    Raises:
      SystemExit: tests fail without any mutant, or they test another copy of the package.
    """
    command = [sys.executable, "-c", "import vdw_jax; print(vdw_jax.__file__)"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")]),
    }
    used = subprocess.run(
        command, cwd=tree, env=environment, check=True, capture_output=True, text=True
    ).stdout
    if not Path(used.strip()).is_relative_to(tree):
        raise SystemExit(f"the tests would use {used.strip()}, not the copy that is mutated")
    seconds = {}
    for _ in ("compiling", "compiled"):
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            waiting = {file: pool.submit(run_tests, tree, TESTS[file], 900, stop) for file in files}
            for file, run in waiting.items():
                found = run.result()
                if found.outcome != "survived":
                    raise SystemExit(f"the unchanged tests of {file}: {found.outcome} {found.test}")
                seconds[file] = found.seconds
    for file, value in seconds.items():
        print(f"unchanged: {value:5.1f} s  {file}", flush=True)
    return seconds
