"""One function over many crystals, in spawned processes, with progress and time left on stderr."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from tqdm import tqdm

CHUNK = 8
"""Tasks sent to a worker process at a time."""

T = TypeVar("T")
R = TypeVar("R")

_shared: Any = None


def parallel_map(
    function: Callable[[Any, T], R],
    tasks: Sequence[T],
    *,
    shared: Any = None,
    workers: int = 1,
    description: str = "",
    progress: bool = True,
) -> list[R]:
    """`function(shared, task)` of every task, in their order.

    Args:
      function: importable by name, as is usual for other processes.
      tasks: sent to the processes a few at a time.
      shared: sent once to each process.
      workers: processes at most; 1 runs here, and so do few tasks. More start by spawning, since forking a process
        that runs JAX can hang, so a script that asks for them needs the usual `if __name__ == "__main__"`.
      description: in front of the progress line.
      progress: shows that line.

    Raises:
      ValueError: no worker is asked for.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    workers = min(workers, max(1, len(tasks) // CHUNK))

    def shown(results: Iterable[R]) -> list[R]:
        return list(tqdm(results, total=len(tasks), desc=description, disable=not progress, mininterval=1.0))

    if workers == 1:
        return shown(function(shared, task) for task in tasks)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_keep, initargs=(function, shared)) as pool:
        return shown(pool.map(_call, tasks, chunksize=CHUNK))


def _keep(function: Callable[..., Any], shared: Any) -> None:
    global _shared
    _shared = function, shared


def _call(task: Any) -> Any:
    function, shared = _shared
    return function(shared, task)
