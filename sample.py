"""Designs crystals from a wish: `python sample.py --target_formula=GaInSSe2 --num_samples=8 --out=samples/GaInSSe2`.

Writes one CIF a structure, all of them as extended XYZ, a table of what was asked and what was got, a page to look at
(report.html), and request.json, with which `python sample.py --request=.../request.json` makes the same again.
"""

import argparse
import sys
import time

from vdw_jax.design.generate import generate
from vdw_jax.design.request import RequestError, make_request, parse_targets
from vdw_jax.design.saved import describe_run, differences, parse_with_saved
from vdw_jax.design.trained import PRETRAINED, CheckpointError, load_trained
from vdw_jax.diffusion.samplers import SAMPLERS
from vdw_jax.report.samples import save_samples, short_table, to_crystals
from vdw_jax.report.writer import refuse_existing
from vdw_jax.training.progress import Progress


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--target_formula", metavar="FORMULA", help="e.g. GaInSSe2; its counts hold exactly")
    parser.add_argument("--target_energy", metavar="EV", type=float, help="the model's first scalar, eV a cell")
    other = "another property that the checkpoint learned; may be repeated"
    parser.add_argument("--target", metavar="NAME=VALUE", action="append", default=[], help=other)
    parser.add_argument("--num_samples", metavar="N", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same structures")
    parser.add_argument("--steps", metavar="N", type=int, help="network calls a structure; the checkpoint's by default")
    parser.add_argument("--sampler", choices=SAMPLERS, help="the checkpoint's by default")
    parser.add_argument("--checkpoint", metavar="DIR", default=str(PRETRAINED), help="workdir or export of train.py")
    parser.add_argument("--request", metavar="FILE", help="request.json of an earlier run: the same again")
    parser.add_argument("--out", metavar="DIR", help="default: samples/<what is asked>-seed<seed>")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output in --out")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    return parse_with_saved(parser)


def main() -> None:
    """Entry point."""
    started = time.monotonic()
    try:
        given = parse_arguments()
        energy = None if given.target_energy is None else f"{given.target_energy:g}eV"
        asked_for = "_".join(filter(None, (given.target_formula, energy, *given.target))) or "any"
        out = given.out or f"samples/{asked_for}-seed{given.seed}"
        if given.num_samples < 1:
            raise RequestError(f"--num_samples is at least 1, not {given.num_samples}")
        trained = load_trained(given.checkpoint)
        names = [scalar.name for scalar in trained.model.config.scalars]
        if given.target_energy is not None and not names:
            raise RequestError("this checkpoint was trained without an energy")
        wanted = {} if given.target_energy is None else {names[0]: given.target_energy}
        wanted |= parse_targets(given.target)
        request = make_request(trained, given.target_formula, wanted)
        schedule = trained.schedule(given.steps, given.sampler)
        record = describe_run(vars(given), trained, schedule.num_calls)
        notes = (*differences(given.request, vars(given), record), *request.notes)
        refuse_existing(out, overwrite=given.overwrite)
    except (RequestError, CheckpointError, FileExistsError, ValueError) as error:
        print(f"sample.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for note in notes:
        print(f"note: {note}", file=sys.stderr)

    with Progress(given.num_samples, "sampling", given.quiet) as progress:
        found = generate(trained, request, given.num_samples, given.seed, schedule, on_progress=progress.update)
    crystals = to_crystals(found.crystals, trained.model.config.periodicity)
    predicted = [dict(zip(names, map(float, values), strict=True)) for values in found.predicted]
    asked = {**request.asked, **wanted}
    rows = save_samples(out, crystals, asked, predicted, record, trained, overwrite=given.overwrite)
    print(short_table(rows))
    if len(rows) < len(crystals):
        print(f"{len(crystals) - len(rows)} of {len(crystals)} were not finite and are left out")
    print(f"{len(rows)} structures in {out} after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
