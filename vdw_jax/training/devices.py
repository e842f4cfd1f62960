"""Several devices: weights whole on each, batches split over them.

What passes over edges runs under `shard_map`, each device on its own part as if it were alone; the rest is left to
XLA's partitioner. Random numbers are drawn for the whole batch, so results do not depend on the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "data"


def data_mesh() -> Mesh:
    """All devices, of all processes, in one axis, "data"."""
    return Mesh(np.array(jax.devices()), (AXIS,))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts every array on all devices, as the steps return them: the first call compiles what later ones use."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def split_over(tree: Any, mesh: Mesh) -> Any:
    """Puts a part of every array, along its first axis, on each device."""
    return jax.device_put(tree, NamedSharding(mesh, P(AXIS)))


def shard_batch(tree: Any, mesh: Mesh) -> Any:
    """Constrains the first axis of every array to be split over the devices."""
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)


def on_each_device(function: Callable, mesh: Mesh, num_whole: int = 1) -> Callable:
    """`function` as every device runs it on its part.

    Args:
      num_whole: how many of the first arguments each device has whole; the others, and what is returned, are split
        along their first axis.
    """

    def run(*args):
        split = [P(AXIS)] * (len(args) - num_whole)
        return jax.shard_map(
            function, mesh=mesh, in_specs=(*[P()] * num_whole, *split), out_specs=P(AXIS), check_vma=False
        )(*args)

    return run
