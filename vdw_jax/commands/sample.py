"""Designs crystals from targets: `python sample.py --target_formula=GaInSSe2 --num_samples=8 --out=samples/GaInSSe2`.

Writes one CIF a structure, all of them as extended XYZ, a table of what was asked and what was got, a page to look at
(report.html), and request.json, with which `python sample.py --request=.../request.json` makes the same again.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from vdw_jax.commands.relax import POTENTIALS
from vdw_jax.pretrained import SHIPPED

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    from vdw_jax.designer import Designs, Plan

SAMPLERS = ("annealed_langevin", "few_step_langevin", "predictor_corrector", "heun", "dpm_solver")
"""Those of `diffusion.samplers`, which takes seconds to import."""

_STOPPING = "stopping after the candidates that are being made; once more stops at once and writes nothing"
_TAKES_NEGATIVE = ("--target_energy", "--target")
_NEGATIVE = re.compile(r"[-\N{MINUS SIGN}]\s*[\d.]")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{_name()}: {message}\n")


def _name() -> str:
    """Of this command in messages: `vdw-jax sample` or `sample.py`."""
    return sys.argv[0] if sys.argv[0].startswith("vdw-jax ") else "sample.py"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; that of the process by default.

    Raises:
      RequestError: a saved request that cannot be used.
    """
    parser = _Parser(description=__doc__.splitlines()[0], epilog=_covered(), allow_abbrev=False)
    parser.add_argument("--target_formula", metavar="FORMULA", help="e.g. GaInSSe2; its counts hold exactly")
    parser.add_argument("--chemical_system", metavar="A-B", help="e.g. Ga-In-S-Se: these elements and no others")
    parser.add_argument(
        "--target_energy", metavar="EV", help="the first property, eV a cell; a range as in -0.3..-0.1, or '<=-0.1'"
    )
    parser.add_argument(
        "--target", metavar="NAME=VALUE", action="append", default=[], help="another; also NAME=FROM..TO, 'NAME>=FROM'"
    )
    parser.add_argument("--free_counts", action="store_true", help="the formula is a condition; counts may differ")
    parser.add_argument(
        "--allow_untrained", action="store_true", help="go on outside what the model covers, and mark every candidate"
    )
    parser.add_argument("--strict", action="store_true", help=argparse.SUPPRESS)  # the default now
    parser.add_argument("--num_samples", metavar="N", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="0 to 2^32 - 1; the same seed gives the same structures")
    parser.add_argument("--steps", metavar="N", type=int, help="network calls a structure; the checkpoint's by default")
    parser.add_argument("--sampler", choices=SAMPLERS, help="the checkpoint's by default")
    parser.add_argument("--checkpoint", metavar="DIR", default=str(SHIPPED), help="workdir or export of train.py")
    parser.add_argument("--request", metavar="FILE", help="request.json of an earlier run: the same again")
    parser.add_argument("--out", metavar="DIR", help="default: samples/<what is asked>-seed<seed>")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output in --out")
    parser.add_argument("--relax", metavar="POTENTIAL", help=f"then relax them: {POTENTIALS}")
    parser.add_argument("--json", action="store_true", help="the table as JSON on stdout, all else on stderr")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    given = joined(sys.argv[1:] if arguments is None else arguments)
    parsed = parser.parse_args(given)
    if parsed.request is None:
        return parsed
    from vdw_jax.design.saved import parse_with_saved

    return parse_with_saved(parser, given)


def joined(arguments: Sequence[str]) -> list[str]:
    """`--target_energy -0.3..-0.1` as `--target_energy=-0.3..-0.1`, which argparse does not take for an option."""
    found: list[str] = []
    for argument in arguments:
        if found and found[-1] in _TAKES_NEGATIVE and _NEGATIVE.match(argument):
            found[-1] = f"{found[-1]}={argument}"
        else:
            found.append(argument)
    return found


def _covered() -> str:
    """One sentence on the model that ships."""
    facts = json.loads((SHIPPED / "model.json").read_text(encoding="utf-8"))
    return (
        f"The model that ships covers {facts['coverage']['summary']}; other requests are refused, with the nearest "
        "that is covered, unless --allow_untrained is given."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; takes the arguments of the process by default.

    Exit status: 0; 1 where no candidate came out; 2 for what cannot be asked; 130 and 143 after SIGINT and SIGTERM.
    """
    try:
        _run(arguments)
    except KeyboardInterrupt as stopped:
        print(f"{_name()}: stopped; nothing more was written", file=sys.stderr)
        raise SystemExit(143 if "SIGTERM" in str(stopped) else 130) from None


def _run(arguments: Sequence[str] | None) -> None:
    started = time.monotonic()
    try:
        given = parse_arguments(arguments)
        plan, out, notes, calculator = _prepare(given)
    except (ValueError, OSError) as error:
        _fail(error, 2)
    say = functools.partial(print, file=sys.stderr if given.json else sys.stdout)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)

    found, signal_name = _sample(plan, given, out)
    say(_table(found))
    if missing := found.request["not_finite"]:
        say(f"{missing} of {missing + len(found)} were not finite and are left out")
    if signal_name:
        command = _name().replace("sample.py", "python sample.py")
        finished = found.request.get("finished", given.num_samples)
        print(
            f"{_name()}: stopped by {signal_name}: {finished} of {given.num_samples} candidates are finished, "
            f"in {out}. This makes all of them, the first {finished} the same again: "
            f"{command} --request={out}/request.json --out={out} --overwrite",
            file=sys.stderr,
        )
    rows = [design.record for design in found]
    if given.relax and not signal_name:
        from vdw_jax.report.relaxation import num_interrupted, relax_samples, summary

        try:
            rows = relax_samples(out, given.relax, calculator=calculator, quiet=given.quiet)[1]
        except (ValueError, OSError) as error:
            _fail(error, 1)
        say(summary(rows))
        if num_interrupted(rows):
            signal_name = "SIGINT"
            command = shlex.join(["python", "-m", "vdw_jax.report.relaxation", out, f"--potential={given.relax}"])
            print(f"{_name()}: stopped while relaxing; this goes on: {command}", file=sys.stderr)
    say(f"{len(found)} structures in {out} after {time.monotonic() - started:.0f} s")
    if given.json:
        from vdw_jax.report.table import as_json

        print(as_json(rows))
    if signal_name:
        raise SystemExit(128 + signal.Signals[signal_name])


def _prepare(given: argparse.Namespace):
    """The plan, the folder, what to note first, and the calculator of `--relax`, before any long work."""
    from vdw_jax.design.request import asked_targets
    from vdw_jax.design.saved import default_folder, differences
    from vdw_jax.designer import Designer
    from vdw_jax.report.writer import refuse_existing
    from vdw_jax.structures.potentials import create_calculator

    designer = Designer.from_pretrained(given.checkpoint)
    plan = designer.plan(
        given.num_samples,
        formula=given.target_formula,
        chemical_system=given.chemical_system,
        targets=asked_targets(given.target, given.target_energy, list(designer.conditions)),
        hold_counts=not given.free_counts,
        allow_untrained=given.allow_untrained,
        seed=given.seed,
        steps=given.steps,
        sampler=given.sampler,
        settings=vars(given),
    )
    out = given.out or default_folder(given)
    notes = (*differences(given.request, vars(given), plan.record), *plan.notes)
    if given.strict:
        notes = ("--strict has no effect: refusing what the model does not cover is the default now", *notes)
    refuse_existing(out, overwrite=given.overwrite)
    return plan, out, notes, create_calculator(given.relax) if given.relax else None


def _sample(plan: Plan, given: argparse.Namespace, out: str) -> tuple[Designs, str | None]:
    """What is finished, written to the folder, and the signal that stopped it."""
    from vdw_jax.designer import SamplingError
    from vdw_jax.training.interrupt import GracefulExit
    from vdw_jax.training.progress import Progress

    with GracefulExit(_STOPPING) as stop:
        try:
            with Progress(given.num_samples, "sampling", given.quiet) as progress:
                found = plan.run(progress.update, lambda: stop.requested)
        except SamplingError as error:
            _fail(error, 1)
        except KeyboardInterrupt as stopped:
            raise KeyboardInterrupt(stop.signal_name, *stopped.args) from None
        try:
            found.save(out, overwrite=given.overwrite)
        except OSError as error:
            _fail(error, 1)
    return found, stop.signal_name


def _table(found: Designs) -> str:
    from vdw_jax.report.samples import short_table

    return short_table([design.record for design in found])


def _fail(error: Exception, status: int) -> NoReturn:
    print(f"{_name()}: {error}", file=sys.stderr)
    raise SystemExit(status) from None


if __name__ == "__main__":
    main()
