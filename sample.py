"""Designs crystals from a wish: `python sample.py --target_formula=GaInSSe2 --num_samples=8 --out=samples/GaInSSe2`.

Writes one CIF a structure, all of them as extended XYZ, a table of what was asked and what was got, a page to look at
(report.html), and request.json, with which `python sample.py --request=.../request.json` makes the same again.
"""

import argparse
import sys
import time

from vdw_jax.design.request import RequestError, parse_targets
from vdw_jax.design.saved import differences, parse_with_saved
from vdw_jax.design.trained import PRETRAINED, CheckpointError
from vdw_jax.designer import Designer
from vdw_jax.diffusion.samplers import SAMPLERS
from vdw_jax.report.samples import short_table
from vdw_jax.report.writer import refuse_existing
from vdw_jax.training.progress import Progress


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--target_formula", metavar="FORMULA", help="e.g. GaInSSe2; its counts hold exactly")
    parser.add_argument("--chemical_system", metavar="A-B", help="e.g. Ga-In-S-Se: these elements and no others")
    energy = "the model's first property, in eV a cell; a range as in -0.3..-0.1"
    parser.add_argument("--target_energy", metavar="EV", help=energy)
    other = "another property that the checkpoint learned, or NAME=FROM..TO; may be repeated"
    parser.add_argument("--target", metavar="NAME=VALUE", action="append", default=[], help=other)
    parser.add_argument("--free_counts", action="store_true", help="the formula is a condition; counts may differ")
    parser.add_argument("--strict", action="store_true", help="refuse what lies outside the training data")
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
        designer = Designer.from_pretrained(given.checkpoint)
        energy, targets = given.target_energy, parse_targets(given.target)
        if energy is not None:
            if not designer.conditions:
                raise RequestError("this checkpoint was trained without an energy")
            targets = parse_targets([f"{next(iter(designer.conditions))}={energy}"]) | targets
        plan = designer.plan(
            given.num_samples, formula=given.target_formula, chemical_system=given.chemical_system, targets=targets,
            hold_counts=not given.free_counts, strict=given.strict, seed=given.seed, steps=given.steps,
            sampler=given.sampler, settings=vars(given),
        )  # fmt: skip
        wishes = (given.target_formula, given.chemical_system, energy and f"{energy}eV", *given.target)
        out = given.out or f"samples/{'_'.join(filter(None, wishes)) or 'any'}-seed{given.seed}"
        notes = (*differences(given.request, vars(given), plan.record), *plan.notes)
        refuse_existing(out, overwrite=given.overwrite)
    except (RequestError, CheckpointError, FileExistsError, ValueError) as error:
        print(f"sample.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for note in notes:
        print(f"note: {note}", file=sys.stderr)

    with Progress(given.num_samples, "sampling", given.quiet) as progress:
        found = plan.run(progress.update)
    found.save(out, overwrite=given.overwrite)
    print(short_table([design.record for design in found]))
    if missing := given.num_samples - len(found):
        print(f"{missing} of {given.num_samples} were not finite and are left out")
    print(f"{len(found)} structures in {out} after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
