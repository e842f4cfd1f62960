"""Training state on disk: the last few steps and the best one, each written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from vdw_jax.training.devices import in_any_process

State = TypeVar("State")

_LOG = logging.getLogger(__name__)
_METRIC = "validation"
_ASIDE = ".corrupt"
CHECKSUMS = "__checksums__"
"""Name of the leaf that holds them; steps from before have none."""


class CheckpointError(RuntimeError):
    """There are checkpoints, and not one of them can be restored into the given template."""


def write_json_atomic(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as JSON; a reader sees the old file or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


class Checkpoints:
    """Checkpoints of one run, in directories named by step.

    A save returns when everything is on disk, under a temporary name until then: a process killed
    while it saves leaves the earlier checkpoints as they were. A step that cannot be read all the
    same is passed over and renamed `<step>.corrupt`. State is stored leaf by leaf under its path
    in the pytree, so any pytree of arrays, numbers and PRNG keys will do. Beside the leaves lies the sha256 of each, of
    the step and of its validation figure: what is restored is what was saved, or the step counts as damaged.

    Args:
      directory: made if missing, unless `read_only`.
      keep: how many of the latest steps stay; the best one stays besides.
      config: written beside the steps as `config.json`, if given.
      read_only: never changes the directory; for looking into a run that may still be training.
      old_name: path of a leaf -> its path in steps from before there were checksums, where it was another.

    Attributes:
      notes: a line on each step that was passed over.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int = 2,
        config: Mapping[str, Any] | None = None,
        read_only: bool = False,
        old_name: Callable[[str], str] = str,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.directory = Path(directory).absolute()
        self._read_only = read_only
        self._old_name = old_name
        self.notes: list[str] = []
        if read_only and not self.directory.is_dir():
            raise FileNotFoundError(f"no checkpoints at {self.directory}")
        is_writer = not read_only and jax.process_index() == 0
        if is_writer:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.notes += _set_unreadable_aside(self.directory)
            if config is not None:
                write_json_atomic(self.directory / "config.json", dict(config))
        self._manager = ocp.CheckpointManager(
            self.directory,
            handler_registry=_handlers(),
            options=ocp.CheckpointManagerOptions(
                best_fn=_validation,
                best_mode="min",
                preservation_policy=preservation_policy.AnyPreservationPolicy(
                    [
                        preservation_policy.LatestN(keep),
                        preservation_policy.BestN(
                            get_metric_fn=_validation,
                            reverse=True,
                            n=1,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
                create=not read_only,
                cleanup_tmp_directories=not read_only,
                enable_async_checkpointing=False,
            ),
        )

    @property
    def steps(self) -> list[int]:
        """Steps on disk, rising."""
        return sorted(self._manager.all_steps())

    @property
    def best_step(self) -> int | None:
        """The step with the lowest validation figure, the earlier of two equals; None if none has one."""
        ranked = self._ranked()
        return ranked[0] if ranked else None

    def save(self, step: int, state: Any, metric: float | None = None) -> bool:
        """Saves `state` as `step` and removes what need not be kept.

        Args:
          step: must be above every step on disk, or equal to the last one: that one is kept as it is.
          state: pytree of arrays (sharded or not), numbers and PRNG keys.
          metric: validation figure, lower is better; None or not finite: no candidate for the best.

        Returns:
          Whether anything was written.

        Raises:
          ValueError: a later step is on disk already.
        """
        if self._read_only:
            raise ValueError(f"{self.directory} was opened read-only")
        last = self.steps[-1] if self.steps else None
        if last is not None and step < last:
            raise ValueError(f"cannot save step {step}: {self.directory} already holds step {last}")
        if last == step:
            return False
        figure = None if metric is None or not math.isfinite(metric) else float(metric)
        leaves = {name: _to_storable(leaf) for name, leaf in _leaves_by_path(state).items()}
        leaves[CHECKSUMS] = checksums(leaves, step, figure)
        return bool(
            self._manager.save(
                step,
                args=ocp.args.StandardSave(leaves),
                metrics=None if figure is None else {_METRIC: figure},
                force=True,
            )
        )

    def restore_latest(self, template: State) -> tuple[State, int] | None:
        """The state of the last readable step and that step; None where nothing was ever saved.

        Args:
          template: pytree of arrays or `jax.ShapeDtypeStruct`; the result has its structure, shapes,
            dtypes and shardings, whatever the sharding was when saved.

        Raises:
          CheckpointError: there are steps, and none fits the template or can be read.
        """
        return self._restore_first(self.steps[::-1], template)

    def restore_best(self, template: State) -> tuple[State, int] | None:
        """As `restore_latest`, for the step with the lowest validation figure."""
        return self._restore_first(self._ranked(), template)

    def check_fits(self, template: Any) -> None:
        """That the last step has the leaves of `template`, without reading them.

        Raises:
          CheckpointError: it has others, or of other shapes.
        """
        for step in self.steps[::-1]:
            stored = _stored_shapes(self._manager, step)
            if stored is not None:
                wanted = {name: _to_abstract(leaf) for name, leaf in _leaves_by_path(template).items()}
                try:
                    _check_against(stored, self._as_stored(wanted, stored))
                except ValueError as error:
                    raise CheckpointError(f"{self.directory}: step {step}: {error}") from None
                return

    def close(self) -> None:
        """Waits for what is unfinished and lets go of the directory."""
        self._manager.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ranked(self) -> list[int]:
        figures = [(self._manager.metrics(step), step) for step in self.steps]
        return [step for _, step in sorted((figure[_METRIC], step) for figure, step in figures if figure)]

    def _restore_first(self, steps: list[int], template: State) -> tuple[State, int] | None:
        failed: dict[int, Exception] = {}
        for step in steps:
            try:
                state = self._restore(step, template)
            except Exception as error:  # orbax and tensorstore raise many kinds on damaged files
                _LOG.warning("checkpoint %s/%d cannot be restored: %s", self.directory, step, error)
                failed[step] = error
                continue
            for other, error in failed.items():
                self.notes.append(_note(self.directory / str(other), error))
            self._set_aside(list(failed))
            return state, step
        if failed:
            reasons = "\n".join(f"  step {step}: {error}" for step, error in failed.items())
            raise CheckpointError(
                f"no checkpoint in {self.directory} can be restored:\n{reasons}"
            ) from next(iter(failed.values()))
        return None

    def _restore(self, step: int, template: State) -> State:
        named = _leaves_by_path(template)
        abstract = {name: _to_abstract(leaf) for name, leaf in named.items()}
        stored = _stored_shapes(self._manager, step)
        wanted = self._as_stored(abstract, stored)
        if stored is not None:
            _check_against(stored, wanted)
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(wanted))
        found = restored.pop(CHECKSUMS, None)
        if found is not None:
            metrics = self._manager.metrics(step)
            expected = checksums(restored, step, metrics[_METRIC] if metrics else None)
            _compare(np.asarray(found), expected, sorted(restored))
            restored = {name: restored[name] for name in named}
        else:
            restored = {name: restored[self._old_name(name)] for name in named}
        leaves = [_from_storable(restored[name], leaf) for name, leaf in named.items()]
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    def _as_stored(self, wanted: dict[str, Any], stored: Mapping[str, Any] | None) -> dict[str, Any]:
        """Leaves as a step has them: with checksums, or by their old names in steps from before."""
        if stored is not None and CHECKSUMS not in stored and not any(CHECKSUMS[:5] in name for name in stored):
            return {self._old_name(name): leaf for name, leaf in wanted.items()}
        return wanted | {CHECKSUMS: np.zeros((len(wanted) + 1, 32), np.uint8)}

    def _set_aside(self, steps: list[int]) -> None:
        if self._read_only or not steps:
            return
        if jax.process_index() == 0:
            for step in steps:
                _rename_aside(self.directory / str(step))
        self._manager.reload()


def checksums(leaves: Mapping[str, Any], step: int, figure: float | None) -> np.ndarray:
    """sha256 of the whole (step, validation figure, names), then of each leaf by its name in order; [n + 1, 32] uint8.

    Every process computes all of them, from arrays that are split over processes too.
    """
    names = sorted(leaves)
    rows = [hashlib.sha256(json.dumps([step, figure, names]).encode()).digest()]
    for name in names:
        values = _on_host(leaves[name])
        digest = hashlib.sha256(f"{name}|{values.dtype}|{values.shape}|".encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(values).tobytes())
        rows.append(digest.digest())
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)


def _on_host(leaf: Any) -> np.ndarray:
    is_split = isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True) if is_split else leaf)


def _compare(found: np.ndarray, expected: np.ndarray, names: list[str]) -> None:
    wrong = [name for name, is_same in zip(["", *names], (found == expected).all(-1), strict=True) if not is_same]
    if in_any_process(bool(wrong)):
        parts = [name or "the step, its validation figure or the names" for name in wrong]
        raise ValueError(f"checksums differ: {_some(parts)}" if wrong else "checksums differ in another process")


def _note(path: Path, error: Exception) -> str:
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return f"checkpoint {path} is damaged and passed over: {reason[:200]}"


def _handlers() -> ocp.handlers.CheckpointHandlerRegistry:
    """Of the one item there is; without it the shapes of what is stored are not known before the first save."""
    registry, handler = ocp.handlers.DefaultCheckpointHandlerRegistry(), ocp.StandardCheckpointHandler()
    registry.add("default", ocp.args.StandardSave, handler)
    registry.add("default", ocp.args.StandardRestore, handler)
    return registry


def _validation(metrics: Mapping[str, float]) -> float:
    return metrics[_METRIC]


def _leaves_by_path(tree: Any) -> dict[str, Any]:
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    if len(named) != len(jax.tree.leaves(tree)):
        raise ValueError("two leaves of the state have the same path")
    return named


def _is_typed_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_storable(leaf: Any) -> Any:
    if _is_typed_key(leaf):
        return jax.random.key_data(leaf)
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def _to_abstract(leaf: Any) -> Any:
    if _is_typed_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    return np.asarray(leaf)


def _from_storable(value: Any, like: Any) -> Any:
    if _is_typed_key(like):
        return jax.random.wrap_key_data(value, impl=_key_implementation(like))
    if isinstance(like, bool | int | float | complex):
        return type(like)(value.item())
    return value


def _key_implementation(like: Any) -> str:
    names: list[str] = []
    # Traced, for key_impl does not take an abstract key as it is.
    jax.eval_shape(lambda key: names.append(str(jax.random.key_impl(key))), like)
    return names[0]


def _stored_shapes(manager: ocp.CheckpointManager, step: int) -> dict[str, tuple[int, ...]] | None:
    metadata = manager.item_metadata(step)
    tree = getattr(metadata, "tree", metadata)
    if not isinstance(tree, Mapping):
        return None
    return {name: tuple(leaf.shape) for name, leaf in tree.items()}


def _check_against(stored: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Any]) -> None:
    missing, extra = wanted.keys() - stored.keys(), stored.keys() - wanted.keys()
    reshaped = [n for n in wanted.keys() & stored.keys() if tuple(wanted[n].shape) != stored[n]]
    problems = []
    if missing:
        problems.append(f"not in the checkpoint: {_some(missing)}")
    if extra:
        problems.append(f"not in the template: {_some(extra)}")
    if reshaped:
        problems.append(f"of another shape: {_some(f'{n} {stored[n]}' for n in reshaped)}")
    if problems:
        raise ValueError("state does not fit the template; " + "; ".join(problems))


def _some(names: Any, most: int = 4) -> str:
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _set_unreadable_aside(directory: Path) -> list[str]:
    """Renames steps whose metadata is broken: the manager would not even start on them. A line on each."""
    notes = []
    for path in directory.iterdir():
        if not (path.name.isdigit() and path.is_dir()):
            continue
        try:
            json.loads((path / "_CHECKPOINT_METADATA").read_text())
            figures = path / "metrics" / "metrics"
            if figures.exists():
                float(json.loads(figures.read_text())[_METRIC])
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("checkpoint %s is damaged: %s", path, error)
            notes.append(_note(path, error))
            _rename_aside(path)
    return notes


def _rename_aside(path: Path) -> None:
    target = path.with_name(path.name + _ASIDE)
    number = 1
    while target.exists():
        target = path.with_name(f"{path.name}{_ASIDE}{number}")
        number += 1
    path.rename(target)
