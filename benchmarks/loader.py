"""Structures a second of what feeds the networks: batches drawn on the device, and the graphs built there.

    python -m benchmarks.loader --config=configs/j2dh8.py --batch=256

Times `take_batch` with the neighbour search of the config behind it, and, from the host, padded jraph batches.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import flops, measure
from vdw_jax.graphs.interchange import to_graphs_tuple
from vdw_jax.graphs.neighbours import edge_length, find_neighbours, find_pairs
from vdw_jax.model.config import ModelConfig
from vdw_jax.training.devices import data_mesh
from vdw_jax.training.steps import make_example, take_batch
from vdw_jax.types import CrystalBatch, Neighbours

DATA = 4096


def build_graph(config: ModelConfig, crystals: CrystalBatch) -> Neighbours:
    """The graph that the encoder sees."""
    if config.graph == "pairs":
        return find_pairs(crystals, periodicity=config.periodicity)
    return find_neighbours(
        crystals, periodicity=config.periodicity, cutoff_angstrom=config.encoder.cutoff_angstrom,
        max_neighbours=config.max_neighbours, image_range=config.image_range,
    )  # fmt: skip


def sorted_lengths(config: ModelConfig, crystals: CrystalBatch):
    """Lengths of each atom's edges in order, which do not depend on how ties are broken; 0 in empty slots."""
    return jnp.sort(edge_length(build_graph(config, crystals)), axis=-1)


def run(argv: list[str] | None = None) -> dict:
    """Measures, checks and returns the record."""
    arguments, config = measure.parse(measure.parser(__doc__.splitlines()[0]), argv)
    crystals = measure.make_crystals(max(arguments.batch, min(DATA, 16 * arguments.batch)), arguments.atoms,
                                     arguments.slots)  # fmt: skip
    model, mesh = measure.make_model(config, crystals).config, data_mesh()
    data = make_example(crystals.atomic_numbers, crystals.positions, crystals.cell, np.zeros((len(crystals.cell), 1)))

    @jax.jit
    def draw(data, key):
        return take_batch(data, key, arguments.batch, mesh)

    @jax.jit
    def draw_graph(data, key):
        batch = take_batch(data, key, arguments.batch, mesh)
        return batch, build_graph(model, batch.crystals)

    key = jax.random.key(0)
    drawn = measure.time_calls(lambda: draw(data, key), arguments.repeats)
    compiled, compile_s = measure.compile_timed(draw_graph, data, key)
    timing = measure.time_calls(lambda: compiled(data, key), arguments.repeats)
    batch, graph = jax.device_get(compiled(data, key))
    interchange = measure.time_calls(lambda: to_graphs_tuple(batch.crystals, graph), arguments.repeats)
    memory = measure.peak_memory_gb(compiled)

    few = jax.tree.map(lambda x: x[:16], crystals)
    lengths = jax.jit(lambda few: sorted_lengths(model, few))(few)
    with jax.enable_x64(True):
        exact = CrystalBatch(few.atomic_numbers, few.positions.astype(np.float64), few.cell.astype(np.float64))
        reference = jax.device_get(jax.jit(lambda few: sorted_lengths(model, few))(exact))
    error = measure.relative_error(lengths, reference)
    record = measure.make_record(
        "loader", arguments, measure.measure_ceilings(), timing,
        dtype="float32",
        structures_per_s=arguments.batch / timing.median_s,
        neighbours=flops.num_neighbours(model, arguments.slots),
        structures_per_s_without_graph=arguments.batch / drawn.median_s,
        structures_per_s_to_jraph=arguments.batch / interchange.median_s,
        peak_memory_gb=memory,
        compile_s=compile_s,
        error_against_float64=error,
        tolerance=1e-5,
    )  # fmt: skip
    measure.report(record, arguments.out)
    assert error < record["tolerance"], "the graph disagrees with float64"
    return record


if __name__ == "__main__":
    run()
