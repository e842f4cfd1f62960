"""From requests to crystals, on the device: `propose` settles what is in the cell, `place` where it sits."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vdw_jax.design.compositions import compositions_of_system
from vdw_jax.design.place import Candidates, place
from vdw_jax.design.propose import FREE_POOL, POOL, as_conditions, propose, propose_again, propose_in_system
from vdw_jax.design.request import Request
from vdw_jax.design.trained import Trained
from vdw_jax.diffusion.samplers import Schedule
from vdw_jax.graphs.neighbours import widened_image_range
from vdw_jax.model.config import in_units
from vdw_jax.training.devices import data_mesh, split_over
from vdw_jax.training.seeds import checked_seed
from vdw_jax.types import CrystalBatch


def default_chunk() -> int:
    """Candidates that run at once on one device."""
    return 512 if jax.default_backend() != "cpu" else 16


def generate(
    trained: Trained,
    request: Request,
    num_samples: int,
    seed: int,
    schedule: Schedule | None = None,
    *,
    chunk: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Candidates:
    """`num_samples` candidates for one request, as arrays of the host; fewer if it is stopped.

    Args:
      schedule: of the sampler; that of the training config by default.
      chunk: candidates a device and call, `default_chunk()` by default; fewer if fewer are wanted.
      on_progress: called with the number of finished candidates.
      should_stop: asked before each chunk; once it says yes, what is finished is returned.

    Raises:
      KeyboardInterrupt: stopped before any candidate was finished.
      ConfigError: a seed that cannot be.
    """
    key = jax.random.key(checked_seed(seed))
    model, generator = trained.model, trained.generator
    conditions, spread = as_conditions(request, model.config.scalars)
    known = {
        "model": model,
        "generator": generator,
        "atom_counts": trained.atom_counts,
        "elements": trained.elements,
    }
    pool = POOL[type(generator)]
    if request.system and not request.slots.any():
        table = compositions_of_system(trained.coverage, request, model.config.max_atoms)

        def propose_chunk(ids):
            return propose_in_system(trained.weights, conditions, spread, table, ids, key, pool=pool, **known)

    else:
        if not (request.scalar_mask.any() or request.composition.any()):
            pool = FREE_POOL if model.config.has_stack else 1
        slots = jnp.asarray(request.slots)

        def propose_chunk(ids):
            return propose(trained.weights, conditions, spread, slots, ids, key, pool=pool, **known)

    return _in_chunks(trained, propose_chunk, num_samples, key, schedule, chunk, on_progress, should_stop)


def reconstruct(
    trained: Trained,
    crystals: CrystalBatch,
    seed: int,
    schedule: Schedule | None = None,
    *,
    chunk: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Candidates:
    """Each crystal encoded and decoded again from its latent mean alone: no condition, nothing else is kept.

    Args: as for `generate`.
    """

    def propose_chunk(ids):
        batch = jax.tree.map(lambda x: jnp.asarray(x)[jnp.minimum(ids, len(x) - 1)], crystals)
        return propose_again(
            trained.weights, batch, model=trained.model, atom_counts=trained.atom_counts, elements=trained.elements,
            mesh=data_mesh(),
        )  # fmt: skip

    key, count = jax.random.key(checked_seed(seed)), len(crystals.cell)
    return _in_chunks(trained, propose_chunk, count, key, schedule, chunk, on_progress)


def _in_chunks(
    trained, propose_chunk, count, key, schedule, chunk, on_progress, should_stop=lambda: False
) -> Candidates:
    model, schedule = trained.model, schedule or trained.schedule()
    mesh = data_mesh()
    each = min(chunk or default_chunk(), math.ceil(count / mesh.size))
    size = each * mesh.size
    id_chunks = [split_over(np.arange(start, start + size), mesh) for start in range(0, count, size)]
    proposals = []
    for ids in id_chunks:
        if should_stop():
            raise KeyboardInterrupt
        proposals.append(propose_chunk(ids))
    cutoff = max(model.config.encoder.cutoff_angstrom, model.config.denoiser.cutoff_angstrom)
    cells = np.concatenate([np.asarray(proposal.cell) for proposal in proposals])
    images = widened_image_range(model.config.image_range, cells, model.config.periodicity, cutoff)
    done = []
    for index, (ids, proposal) in enumerate(zip(id_chunks, proposals, strict=True)):
        if should_stop():
            break
        result = place(
            trained.weights["model"], proposal, ids, key, schedule, model=model, weights=trained.noise, images=images,
            mesh=mesh,
        )  # fmt: skip
        _wait_for(result)
        done.append(jax.device_get(result))
        if on_progress is not None:
            on_progress(min((index + 1) * size, count))
    if not done:
        raise KeyboardInterrupt
    found: Candidates = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *done)
    if not model.config.scalars:
        return found
    predicted: Any = in_units(np.asarray(found.predicted), model.config.scalars)
    return dataclasses.replace(found, predicted=predicted)


def _wait_for(result: Any) -> None:
    """Until arrays are computed. Python sees a signal only between its own steps, which `device_get` does not take."""
    while not all(leaf.is_ready() for leaf in jax.tree.leaves(result)):
        time.sleep(0.005)
