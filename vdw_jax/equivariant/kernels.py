"""Where Pallas kernels run, and how one is called; with the Triton backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt


def has_kernels() -> bool:
    """Whether this process computes where the kernels run."""
    return jax.default_backend() == "gpu"


def fma(left, right, addend):
    """left * right + addend, broadcast, in one instruction: Triton leaves products and sums of float32 apart."""
    if isinstance(addend, float) or addend.dtype != jnp.float32 or not _is_nvidia():
        return left * right + addend
    shape = jnp.broadcast_shapes(left.shape, right.shape, addend.shape)
    arrays = [jnp.broadcast_to(array, shape) for array in (left, right, addend)]
    out = jax.ShapeDtypeStruct(shape, jnp.float32)
    return plt.elementwise_inline_asm(
        "fma.rn.f32 $0, $1, $2, $3;", args=arrays, constraints="=f,f,f,f", pack=1, result_shape_dtypes=[out]
    )[0]


def tanh(values):
    """Hyperbolic tangent by one instruction, to 11 bits."""
    return plt.approx_tanh(values) if has_kernels() else jnp.tanh(values)


def _is_nvidia() -> bool:
    return has_kernels() and "rocm" not in jax.devices()[0].client.platform_version.lower()


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
