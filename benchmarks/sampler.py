"""Network calls a second of the compiled sampler, with random weights.

    python -m benchmarks.sampler --config=configs/paper.py --batch=500 --dtype=bfloat16

Times `vdw_jax.design.place.place`: proposals made beforehand, a short schedule of the configured kind, and the one
encoding at its end, which counts against it. The rate does not depend on the number of calls; the time of the
paper's 5,000 is an extrapolation and is labelled as one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks import flops, measure, trace
from vdw_jax.design.place import place
from vdw_jax.design.propose import Proposal
from vdw_jax.design.trained import Trained
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.training.devices import data_mesh, split_over
from vdw_jax.training.losses import LossConfig
from vdw_jax.types import CrystalBatch

PAPER_CALLS = 5000


def denoise(model: CDVAE, params, crystals: CrystalBatch, fused: jax.Array, sigma: jax.Array):
    """One network call for each structure on its own, as `place` makes it: displacements and species."""

    def one(crystal, fused, sigma):
        crystal = jax.tree.map(lambda x: x[None], crystal)
        output = model.apply(params, fused[None], crystal, sigma[None], sigma[None] / (1 + sigma), method="denoise")
        return output.displacement[0], output.species[0]

    return jax.vmap(one)(crystals, fused, sigma)


def check(model: CDVAE, params, crystals: CrystalBatch, seed: int = 0) -> dict[str, float]:
    """Errors of one network call: against float64, and against itself for crystals turned about the slab's normal."""
    rng = np.random.default_rng(seed)
    size = len(crystals.cell)
    fused = rng.standard_normal((size, model.config.latent_dim)).astype(np.float32)
    sigma = rng.uniform(0.1, 3.0, size).astype(np.float32)
    call = jax.jit(lambda params, *inputs: denoise(model, params, *inputs))
    out = measure.run_among_nans(call, params, crystals, fused, sigma)
    reference = measure.in_float64(denoise, model, params, crystals, fused, sigma)
    turn = Rotation.from_euler("z", 0.7).as_matrix().astype(np.float32)
    turned = crystals.replace(positions=crystals.positions @ turn.T, cell=crystals.cell @ turn.T)
    moved, _ = call(params, turned, fused, sigma)
    return {
        "error_against_float64": measure.relative_error(out, reference),
        "equivariance_error": measure.relative_error(moved @ turn, out[0]),
    }


def run(argv: list[str] | None = None) -> dict | None:
    """Measures, checks and returns the record; with `--profile` prints a profile instead."""
    options = measure.parser(__doc__.splitlines()[0])
    options.add_argument("--calls", type=int, default=50, help="network calls of the schedule that is timed")
    options.add_argument("--checked", type=int, default=16, help="structures compared with float64; 0 for no check")
    trace.add_options(options)
    arguments, config = measure.parse(options, argv)
    crystals = measure.make_crystals(arguments.batch, arguments.atoms, arguments.slots)
    model = measure.make_model(config, crystals)
    params = measure.random_params(model, crystals)
    weights = LossConfig(**config.loss.to_dict())
    trained = Trained(model, None, {"model": params["params"]}, weights, {"config": config.to_dict()})
    schedule = trained.schedule(arguments.calls)

    latent = jax.random.normal(jax.random.key(1), (arguments.batch, model.config.latent_dim))
    proposal = Proposal(latent, latent, jnp.asarray(crystals.atomic_numbers), jnp.asarray(crystals.cell))
    proposal, ids = split_over((proposal, np.arange(arguments.batch)), data_mesh())
    inputs = params["params"], proposal, ids, jax.random.key(0), schedule
    compiled, compile_s = measure.compile_timed(
        place, *inputs, model=model, weights=weights, images=model.config.image_range, mesh=data_mesh()
    )
    if arguments.profile:
        return trace.write(lambda: compiled(*inputs), compiled, arguments)
    few = jax.tree.map(lambda x: x[: arguments.checked], crystals)
    errors = check(model, params, few) if arguments.checked else {}
    timing = measure.time_calls(lambda: compiled(*inputs), arguments.repeats)
    memory = measure.peak_memory_gb(compiled)
    ceilings = measure.measure_ceilings()
    rate = arguments.batch * schedule.num_calls / timing.median_s
    work = flops.denoiser(model.config, arguments.atoms)
    record = measure.make_record(
        "sampler", arguments, ceilings, timing,
        structures_per_s=arguments.batch / timing.median_s,
        structure_calls_per_s=rate,
        calls=schedule.num_calls,
        neighbours=flops.num_neighbours(model.config, arguments.slots),
        extrapolated_s_for_9600_structures_at_5000_calls=9600 * PAPER_CALLS / rate,
        gflop_per_structure_call=work / 1e9,
        tflop_per_s=work * rate / 1e12,
        share_of_peak=work * rate / 1e12 / ceilings.matmul_tflops / jax.device_count(),
        peak_memory_gb=memory,
        compile_s=compile_s,
        tolerance=measure.TOLERANCE[arguments.dtype],
        **errors,
    )  # fmt: skip
    measure.report(record, arguments.out)
    if errors:
        assert errors["error_against_float64"] < record["tolerance"], "the network disagrees with float64"
    return record


if __name__ == "__main__":
    run()
