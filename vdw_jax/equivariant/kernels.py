"""Where Pallas kernels run, and how one is called; with the Triton backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt


def has_kernels() -> bool:
    """Whether this process computes where the kernels run."""
    return jax.default_backend() == "gpu"


def run_kernel(
    kernel: Callable[..., None],
    inputs: Sequence[jax.Array],
    out_shape: Sequence[jax.ShapeDtypeStruct],
    grid: tuple[int, ...],
    warps: int,
    interpret: bool,
) -> list[jax.Array]:
    """Runs `kernel(*input_refs, *output_refs)` for every program of the grid; refs are whole arrays."""
    parameters = plt.CompilerParams(num_warps=warps, num_stages=1)
    return list(
        pl.pallas_call(kernel, list(out_shape), grid=grid, compiler_params=parameters, interpret=interpret)(*inputs)
    )
