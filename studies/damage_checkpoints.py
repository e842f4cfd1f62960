"""Damages checkpoints in every way that disks and people do, and counts what is restored: never other weights.

In half of them the record of the files' checksums is gone too.

`python -m studies.damage_checkpoints --count=500 --out=results/damage_checkpoints.json`; some minutes of one core.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import logging
import platform
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vdw_jax.training.checkpoint import CheckpointError, Checkpoints, write_json_atomic
from vdw_jax.training.checksums import FILES_NAME

STEPS = (10, 20, 30)
"""The last is the one that is damaged."""

Damage = Callable[[np.random.Generator, Path], None]


def make_state(seed: int) -> dict[str, Any]:
    """A network's weights, optimiser and key, of some thousand numbers."""
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "dense": {
            "kernel": jax.random.normal(keys[0], (40, 50)),
            "bias": jax.random.normal(keys[1], (50,)),
        },
        "scale": jnp.asarray(0.5 + seed),
    }
    opt_state = optax.adam(1e-3).init(params)
    step = jnp.asarray(seed, jnp.int32)
    return {"step": step, "params": params, "opt_state": opt_state, "key": keys[2]}


def write_run(folder: Path) -> dict[int, list[bytes]]:
    """Three steps, and what each must be restored to."""
    with Checkpoints(folder, keep=len(STEPS)) as checkpoints:
        for step in STEPS:
            checkpoints.save(step, make_state(step), 1.0 / step)
    return {step: as_bytes(make_state(step)) for step in STEPS}


def as_bytes(state: Any) -> list[bytes]:
    """Leaves of a state, bit by bit."""
    leaves = jax.tree.leaves(state)
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    plain = [
        jax.random.key_data(leaf) if key else leaf for leaf, key in zip(leaves, is_key, strict=True)
    ]
    return [np.asarray(leaf).tobytes() for leaf in plain]


def files_of(folder: Path) -> list[Path]:
    """Files below a folder that hold something."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def pick(rng: np.random.Generator, folder: Path) -> Path:
    """A file, by its size: as a fault of the disk finds them."""
    files = files_of(folder)
    weights = np.array([path.stat().st_size for path in files], float)
    return files[rng.choice(len(files), p=weights / weights.sum())]


def flip(rng: np.random.Generator, run: Path, count: int = 1) -> None:
    """Other values for some bytes of a file."""
    path = pick(rng, run / str(STEPS[-1]))
    content = bytearray(path.read_bytes())
    for place in rng.integers(len(content), size=count):
        content[place] ^= int(rng.integers(1, 256))
    path.write_bytes(content)


def flip_many(rng: np.random.Generator, run: Path) -> None:
    """Sixteen bytes of a file."""
    flip(rng, run, 16)


def truncate(rng: np.random.Generator, run: Path) -> None:
    """A file ends early."""
    path = pick(rng, run / str(STEPS[-1]))
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(len(content))])


def zero_block(rng: np.random.Generator, run: Path) -> None:
    """Part of a file is zeros, as after a crash of the file system."""
    path = pick(rng, run / str(STEPS[-1]))
    content = bytearray(path.read_bytes())
    start = int(rng.integers(len(content)))
    length = min(int(rng.integers(1, 4097)), len(content) - start)
    content[start : start + length] = bytes(length)
    path.write_bytes(content)


def remove(rng: np.random.Generator, run: Path) -> None:
    """A file is gone."""
    files = files_of(run / str(STEPS[-1]))
    files[rng.integers(len(files))].unlink()


def swap_in_step(rng: np.random.Generator, run: Path) -> None:
    """Two files of the step have each other's content."""
    files = files_of(run / str(STEPS[-1]))
    _swap(*(files[place] for place in rng.choice(len(files), 2, replace=False)))


def swap_between_steps(rng: np.random.Generator, run: Path) -> None:
    """A file of the step and the one of its kind in another step have each other's content."""
    first = run / str(STEPS[-1])
    path = pick(rng, first)
    second = run / str(STEPS[int(rng.integers(2))])
    item = path.relative_to(first).parts[0]
    others = [other for other in files_of(second) if other.relative_to(second).parts[0] == item]
    alike = [
        other
        for other in others
        if other.suffix == path.suffix and len(other.name) == len(path.name)
    ]
    _swap(path, (alike or others)[int(rng.integers(len(alike or others)))])


def swap_steps(rng: np.random.Generator, run: Path) -> None:
    """Two steps have each other's number."""
    first, second = run / str(STEPS[-1]), run / str(STEPS[int(rng.integers(2))])
    first.rename(run / "aside")
    second.rename(first)
    (run / "aside").rename(second)


def copy_item(rng: np.random.Generator, run: Path) -> None:
    """The arrays of the step are those of another."""
    source = run / str(STEPS[int(rng.integers(2))]) / "default"
    target = run / str(STEPS[-1]) / "default"
    shutil.rmtree(target)
    shutil.copytree(source, target)


def _swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


DAMAGES: dict[str, Damage] = {
    "one byte flipped": flip,
    "sixteen bytes flipped": flip_many,
    "truncated": truncate,
    "zeroed block": zero_block,
    "file removed": remove,
    "files swapped in the step": swap_in_step,
    "files swapped between steps": swap_between_steps,
    "steps swapped": swap_steps,
    "arrays of another step": copy_item,
}


def outcome(run: Path, saved: dict[int, list[bytes]]) -> str:
    """What comes back of a damaged run."""
    try:
        with Checkpoints(run) as checkpoints:
            found = checkpoints.restore_latest(make_state(0))
            notes = checkpoints.notes
    except CheckpointError:
        return "refused"
    if found is None:
        return "nothing left, and said" if notes else "nothing left, unsaid"
    state, step = found
    if as_bytes(state) != saved[step]:
        return "OTHER WEIGHTS"
    if step == STEPS[-1]:
        return "whole: the damage touches no value"
    return "earlier step, and said" if notes else "earlier step, unsaid"


def study(count: int, seed: int) -> dict[str, Any]:
    """Counts of what `count` damaged runs are restored to."""
    total: Counter[str] = Counter()
    by_damage: dict[str, Counter[str]] = {name: Counter() for name in DAMAGES}
    names = list(DAMAGES)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        saved = write_run(whole)
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            name = names[number % len(names)]
            run = Path(scratch) / "run"
            shutil.copytree(whole, run)
            DAMAGES[name](rng, run)
            if rng.random() < 0.5:  # then the checksums inside the checkpoint have to tell
                (run / FILES_NAME).unlink()
            result = outcome(run, saved)
            total[result] += 1
            by_damage[name][result] += 1
            shutil.rmtree(run)
    by_name = {name: dict(counts) for name, counts in by_damage.items()}
    return {"damaged": count, "seed": seed, "outcomes": dict(total), "by_damage": by_name}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--count", type=int, default=500, help="checkpoints to damage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="results/damage_checkpoints.json")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)  # each damage is met on purpose
    found = study(given.count, given.seed)
    packages = ("jax", "orbax-checkpoint", "tensorstore", "numpy")
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in packages}
    record = found | {
        "command": shlex.join(["python", "-m", "studies.damage_checkpoints", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "versions": versions,
    }
    write_json_atomic(given.out, record)
    for name, number in sorted(found["outcomes"].items()):
        print(f"{number:5d} {name}")
    raise SystemExit(
        1 if any("OTHER" in name or "unsaid" in name for name in found["outcomes"]) else 0
    )


if __name__ == "__main__":
    main()
