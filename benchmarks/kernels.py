"""Where the time of a layer goes: each part of the network alone, and a profile of a whole training step.

    python -m benchmarks.kernels --config=configs/j2dh8.py --batch=256 --slots=10 --config.model.cdvae.graph=pairs
    XLA_FLAGS=--xla_gpu_enable_command_buffer= python -m benchmarks.kernels --config=configs/j2dh8.py --profile

A part's floor is the larger of two times: the bytes of its inputs and outputs over the bandwidth of a copy, and its
operations over the rate of a large matrix product. Inside the network parts are fused, so their sum is no step's time.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import flops, measure, trace, train_step
from vdw_jax.equivariant.activations import gate, separable_s2
from vdw_jax.equivariant.attention import neighbour_softmax
from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.equivariant.edges import EdgeInputs, gather_neighbours
from vdw_jax.equivariant.equiformer import TransformerBlock, feed_forward
from vdw_jax.equivariant.layers import EquivariantLayerNorm, RadialFunction
from vdw_jax.equivariant.messages import collect, send
from vdw_jax.equivariant.rotation import edge_frames
from vdw_jax.equivariant.so2 import SO2Linear, num_radial_weights
from vdw_jax.training.loop import create_equiformer


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of the network: what it computes, from what, and how many operations that takes at least."""

    function: Callable
    differentiable: Any  # first argument: parameters, features and what else has a gradient
    constant: Any  # second argument
    flops: int


def make_parts(config: EquiformerConfig, batch: int, atoms: int, neighbours: int, pairs: bool) -> dict[str, Part]:
    """Every part with random inputs of the sizes that training has, in the dtype of the config."""
    rng = np.random.default_rng(0)
    order, dtype, channels, hidden = config.order, config.dtype, config.channels, config.attention_channels
    nodes_shape, edges_shape = (batch, atoms), (batch, atoms, neighbours)
    num_edges, num_nodes = batch * atoms * neighbours, batch * atoms

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape, np.float32), dtype)

    def blocks(channels: int) -> list[jax.Array]:
        return order.split(draw(*edges_shape, order.size, channels))

    index = None if pairs else jnp.asarray(rng.integers(0, atoms, edges_shape), jnp.int32)
    frames = edge_frames(jnp.asarray(rng.standard_normal((*edges_shape, 3)), jnp.float32), order)
    envelope = jnp.asarray(rng.uniform(0.1, 1.0, edges_shape), jnp.float32)
    edges = EdgeInputs(
        index, jnp.ones(edges_shape, bool), draw(*edges_shape, config.num_basis), envelope, frames,
        draw(*nodes_shape, config.edge_channels), draw(*nodes_shape, config.edge_channels),
    )  # fmt: skip
    nodes = draw(*nodes_shape, flops.num_coefficients(config), channels)
    values = config.num_heads * config.value_channels
    num_weights = num_radial_weights(order, 2 * channels)
    gates = hidden * (1 if config.edge_activation == "s2" else config.lmax)
    parts = {}

    def add(name: str, function: Callable, differentiable, constant=None, work: int = 0) -> None:
        parts[name] = Part(function, differentiable, constant, work)

    def add_module(name: str, module, inputs, constant=None, work: int = 0, arguments: Callable | None = None) -> None:
        arguments = arguments or (lambda inputs, constant: (inputs,))
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments(inputs, constant)))
        params = measure.random_like(shapes)

        def function(both, constant):
            return module.apply(both[0], *arguments(both[1], constant))

        add(name, function, (params, inputs), constant, work)

    def activate(inputs, _):
        blocks, gates = inputs
        if config.edge_activation == "s2":
            return separable_s2(blocks, gates, config.edge_grid, order)
        return gate(blocks, gates, order)

    radial = RadialFunction(config.radial_hidden, num_weights, dtype)
    so2_in = SO2Linear(hidden, order, dtype, flops.num_extra_scalars(config), config.reflections)
    so2_out = SO2Linear(values, order, dtype, 0, config.reflections)
    layer_edges = (frames, index)
    add("gather", lambda nodes, index: gather_neighbours(nodes, index, neighbours), nodes, index)
    add_module(
        "radial", radial, (edges.source, edges.target), edges, num_edges * flops.radial(config, num_weights)
        + num_nodes * flops.radial_node(config),
        lambda inputs, edges: (edges.replace(source=inputs[0], target=inputs[1]),),
    )  # fmt: skip
    add(
        "send: gather, rotate, scale", lambda inputs, edges: send(edges[0], inputs[0], edges[1], inputs[1]),
        (nodes, draw(*edges_shape, num_weights)), layer_edges, num_edges * flops.rotation(config, 2 * channels),
    )  # fmt: skip
    work = flops.so2(config, 2 * channels, hidden, flops.num_extra_scalars(config))
    add_module("so2_in", so2_in, blocks(2 * channels), None, num_edges * work)
    add("activation", activate, (blocks(hidden), draw(*edges_shape, gates)), None, num_edges * flops.activation(config))
    add_module("so2_out", so2_out, blocks(hidden), None, num_edges * flops.so2(config, hidden, values, 0))
    add("softmax", neighbour_softmax, draw(*edges_shape, config.num_heads), envelope)
    add(
        "collect: weigh, rotate back, sum", lambda inputs, frames: collect(frames, *inputs),
        (blocks(values), jnp.asarray(rng.uniform(size=(*edges_shape, config.num_heads)), jnp.float32)), frames,
        num_edges * flops.rotation(config, values),
    )  # fmt: skip
    add_module(
        "ffn", feed_forward(config, channels, name=None), nodes, None, num_nodes * flops.feed_forward(config, channels)
    )
    add_module("norm", EquivariantLayerNorm(config.lmax), nodes)
    layer = flops.attention(config, neighbours, channels) + flops.feed_forward(config, channels)
    add_module(
        "whole layer", TransformerBlock(config), nodes, edges, num_nodes * layer,
        lambda nodes, edges: (nodes, edges, None),
    )  # fmt: skip
    return parts


def num_bytes(tree: Any) -> int:
    """Of all arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def time_part(part: Part, ceilings: measure.Ceilings, repeats: int) -> list[dict]:
    """Rows for its forward direction, and for both."""
    forward = jax.jit(part.function)
    out = forward(part.differentiable, part.constant)
    cotangent = jax.tree.map(jnp.ones_like, out)

    @jax.jit
    def both(differentiable, constant, cotangent):
        out, pull = jax.vjp(lambda x: part.function(x, constant), differentiable)
        return out, pull(cotangent)

    once = num_bytes((part.differentiable, part.constant)) + num_bytes(out)
    twice = 2 * once + num_bytes(part.differentiable)
    rows = []
    for direction, call, moved, work in (
        ("forward", lambda: forward(part.differentiable, part.constant), once, part.flops),
        ("both", lambda: both(part.differentiable, part.constant, cotangent), twice, 3 * part.flops),
    ):
        seconds = measure.time_calls(call, repeats, warm_up=2).median_s
        floor = max(moved / ceilings.copy_gb_per_s / 1e9, work / ceilings.matmul_tflops / 1e12)
        rows.append(
            {
                "direction": direction, "ms": 1e3 * seconds, "gb_per_s": moved / seconds / 1e9,
                "tflop_per_s": work / seconds / 1e12, "floor_ms": 1e3 * floor, "over_floor": seconds / floor,
            }
        )  # fmt: skip
    return rows


def errors_against_float64(config: EquiformerConfig, atoms: int, neighbours: int, pairs: bool) -> dict[str, float]:
    """Relative error of each part's output on two structures."""
    parts = make_parts(config, 2, atoms, neighbours, pairs)
    outs = {
        name: jax.device_get(jax.jit(part.function)(part.differentiable, part.constant))
        for name, part in parts.items()
    }
    inputs = {name: measure.to_float64((part.differentiable, part.constant)) for name, part in parts.items()}
    with jax.enable_x64(True):
        exact = make_parts(dataclasses.replace(config, compute_dtype="float64"), 2, atoms, neighbours, pairs)
        return {
            name: measure.relative_error(outs[name], jax.device_get(jax.jit(exact[name].function)(*inputs[name])))
            for name in parts
        }


def run(argv: list[str] | None = None) -> dict | None:
    """Measures, checks and returns the record; with `--profile` prints a profile instead."""
    options = measure.parser(__doc__.splitlines()[0])
    trace.add_options(options)
    arguments, config = measure.parse(options, argv)
    if arguments.profile:
        return print_profile(arguments, config)
    network = create_equiformer(config.model.denoiser)
    pairs, slots = config.model.cdvae.graph == "pairs", arguments.slots
    neighbours = 3 * slots + 3 if pairs else config.model.cdvae.max_neighbours
    ceilings = measure.measure_ceilings()
    parts = make_parts(network, arguments.batch, slots, neighbours, pairs)
    rows: list[dict] = []
    line = "{part:33s} {direction:8s} {ms:9.3f} ms {gb_per_s:7.0f} GB/s {tflop_per_s:7.1f} TFLOP/s {over_floor:6.1f} x"
    for name, part in parts.items():
        for row in time_part(part, ceilings, arguments.repeats):
            rows.append({"part": name} | row)
            print(line.format(**rows[-1]), flush=True)
    errors = errors_against_float64(network, slots, neighbours, pairs)
    whole = rows[-1]
    seconds = whole["ms"] / 1e3
    record = measure.make_record(
        "kernels", arguments, ceilings, measure.Timing(seconds, seconds, seconds, arguments.repeats),
        structures_per_s=arguments.batch / seconds,
        neighbours=neighbours,
        tflop_per_s=whole["tflop_per_s"],
        share_of_peak=whole["tflop_per_s"] / ceilings.matmul_tflops,
        peak_memory_gb=measure.peak_memory_gb(),
        error_against_float64=max(errors.values()),
        errors=errors,
        tolerance=measure.TOLERANCE[arguments.dtype],
        parts=rows,
    )  # fmt: skip
    measure.report(record, arguments.out)
    assert record["error_against_float64"] < record["tolerance"], f"a part disagrees with float64: {errors}"
    return record


def print_profile(arguments: argparse.Namespace, config) -> None:
    """Traces one training step."""
    compiled, _, inputs, _ = train_step.prepare(arguments, config, steps=1)
    trace.write(lambda: compiled(*inputs), compiled, arguments)


if __name__ == "__main__":
    run()
