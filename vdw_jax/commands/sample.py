"""Designs crystals from a wish: `python sample.py --target_formula=GaInSSe2 --num_samples=8 --out=samples/GaInSSe2`.

Writes one CIF a structure, all of them as extended XYZ, a table of what was asked and what was got, a page to look at
(report.html), and request.json, with which `python sample.py --request=.../request.json` makes the same again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from vdw_jax.design.request import RequestError, asked_targets
from vdw_jax.design.saved import default_folder, differences, parse_with_saved
from vdw_jax.design.trained import PRETRAINED, CheckpointError
from vdw_jax.designer import Designer
from vdw_jax.diffusion.samplers import SAMPLERS
from vdw_jax.report.relaxation import relax_samples, summary
from vdw_jax.report.samples import short_table
from vdw_jax.report.writer import refuse_existing
from vdw_jax.structures.potentials import CHOICE, create_calculator
from vdw_jax.training.progress import Progress


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; that of the process by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--target_formula", metavar="FORMULA", help="e.g. GaInSSe2; its counts hold exactly")
    parser.add_argument("--chemical_system", metavar="A-B", help="e.g. Ga-In-S-Se: these elements and no others")
    parser.add_argument("--target_energy", metavar="EV", help="the first property, eV a cell; a range as in -0.3..-0.1")
    parser.add_argument("--target", metavar="NAME=VALUE", action="append", default=[], help="another, or NAME=FROM..TO")
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
    parser.add_argument("--relax", metavar="POTENTIAL", help=f"then relax them: {CHOICE}")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    return parse_with_saved(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; takes the arguments of the process by default."""
    started = time.monotonic()
    try:
        given = parse_arguments(arguments)
        designer = Designer.from_pretrained(given.checkpoint)
        targets = asked_targets(given.target, given.target_energy, list(designer.conditions))
        plan = designer.plan(
            given.num_samples, formula=given.target_formula, chemical_system=given.chemical_system, targets=targets,
            hold_counts=not given.free_counts, strict=given.strict, seed=given.seed, steps=given.steps,
            sampler=given.sampler, settings=vars(given),
        )  # fmt: skip
        out = given.out or default_folder(given)
        notes = (*differences(given.request, vars(given), plan.record), *plan.notes)
        refuse_existing(out, overwrite=given.overwrite)
        calculator = create_calculator(given.relax) if given.relax else None
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
    if given.relax:
        print(summary(relax_samples(out, given.relax, calculator=calculator, quiet=given.quiet)[1]))
    print(f"{len(found)} structures in {out} after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
