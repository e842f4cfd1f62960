"""Several devices: weights whole on each, batches split over them.

What passes over edges runs under `shard_map`, each device on its own part as if it were alone; the rest is left to
XLA's partitioner. Random numbers are drawn for the whole batch, so results do not depend on the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "data"


def is_main() -> bool:
    """Whether this process is the one that writes and talks."""
    return jax.process_index() == 0


def in_any_process(flag: bool) -> bool:
    """Whether it is so in any process; all of them have to ask."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def data_mesh() -> Mesh:
    """All devices, of all processes, in one axis, "data"."""
    return Mesh(np.array(jax.devices()), (AXIS,))


def whole(mesh: Mesh) -> NamedSharding:
    """Of arrays that every device has whole."""
    return NamedSharding(mesh, P())


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts every array on all devices, as the steps return them: the first call compiles what later ones use."""
    return _put(tree, whole(mesh))


def split_over(tree: Any, mesh: Mesh) -> Any:
    """Puts a part of every array, along its first axis, on each device."""
    return _put(tree, NamedSharding(mesh, P(AXIS)))


def _put(tree: Any, sharding: NamedSharding) -> Any:
    """`jax.device_put`, also onto devices of other processes: each process has all of the values and gives its part."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda part: values[part])

    return jax.tree.map(put, tree)


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
