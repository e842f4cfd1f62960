"""Figures of the paper from a model: energies and formulas asked and got, maps of its latent, structures.

    python -m vdw_jax.evaluate.figures all --checkpoint=runs/j2dh8 --out=runs/figures --pictures=docs/figures
    python -m vdw_jax.evaluate.figures generate --checkpoint=runs/j2dh8 --out=runs/figures    # on the accelerator
    python -m vdw_jax.evaluate.figures draw runs/figures --out=docs/figures                   # on a CPU

`fig3.png`, `fig4.png` and `structures.png`, with captions and counts in `figures.md`. The first half needs no crystal
library; the second no device, and scikit-learn from the extra `figures`.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path

from vdw_jax.training.seeds import seed_argument

ENERGIES_EV = "-0.2,0"
"""What the paper asks for in its Fig. 3b."""

NUM_FORMULAS = 3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    text = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="python -m vdw_jax.evaluate.figures", description=__doc__, formatter_class=text, allow_abbrev=False
    )
    commands = top.add_subparsers(required=True, dest="half")
    lines = {"all": "both halves", "generate": "the half for the device: figures.npz", "draw": "the pictures"}
    for half, line in lines.items():
        command = commands.add_parser(half, help=line, allow_abbrev=False)
        if half == "draw":
            command.add_argument("arrays", type=Path, help="what `generate` wrote: the folder, or its figures.npz")
            command.add_argument("--out", type=Path, metavar="DIR", default=Path("docs/figures"),
                                 help="for the pictures; default: %(default)s")  # fmt: skip
        else:
            _add_generate(command)
        if half == "all":
            command.add_argument("--pictures", type=Path, metavar="DIR",
                                 help="for the pictures; that of --out by default")  # fmt: skip
        command.add_argument("--quiet", action="store_true", help="no progress")
    return top


def _add_generate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("runs/figures"), metavar="DIR",
                         help="for the arrays; default: %(default)s")  # fmt: skip
    command.add_argument("--checkpoint", type=Path, help="workdir or export of train.py; what ships by default")
    command.add_argument("--samples", type=int, default=9600, metavar="N",
                         help="with nothing asked; default: 9600, as in the paper")  # fmt: skip
    command.add_argument("--each", type=int, default=100, metavar="N",
                         help="for each energy, and each formula with counts held and free; default: 100")  # fmt: skip
    command.add_argument("--energies", default=ENERGIES_EV, metavar="EV,EV",
                         help="to ask for, written with =; default: --energies=%(default)s")  # fmt: skip
    command.add_argument("--formulas", default="", metavar="F,F",
                         help=f"to ask for; default: {NUM_FORMULAS} of the test part, at random")  # fmt: skip
    command.add_argument("--latents", type=int, default=3000, metavar="N", help="structures on the maps; default: 3000")
    command.add_argument("--part", choices=("train", "test"), default="test", help="of the data, on the maps")
    command.add_argument("--energy_model", metavar="DIR",
                         help="independent property model: what vdw_jax.property_model.train wrote")  # fmt: skip
    command.add_argument("--allow_other_data", action="store_true",
                         help="compare with data that the model was not trained on")  # fmt: skip
    command.add_argument("--seed", type=seed_argument, default=0)
    command.add_argument("--steps", type=int, metavar="N", help="network calls; the checkpoint's by default")
    command.add_argument("--overwrite", action="store_true", help="replace arrays generated before")


def main() -> None:
    """Entry point."""
    given = parser().parse_args()
    try:
        if given.half == "draw":
            _draw(given.arrays, given.out, given.quiet)
            return
        arrays = _generate(given)
        if given.half == "all":
            _draw(arrays, given.pictures or given.out, given.quiet)
    except (ValueError, OSError) as error:  # a full disk too
        print(f"vdw_jax.evaluate.figures: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _command() -> str:
    return shlex.join(["python", "-m", "vdw_jax.evaluate.figures", *sys.argv[1:]])


def _energies(text: str) -> tuple[float, ...]:
    from vdw_jax.evaluate.figure_arrays import FigureError

    try:
        energies = tuple(dict.fromkeys(float(part) for part in text.split(",") if part.strip()))
    except ValueError:
        energies = (math.nan,)
    if not energies or not all(math.isfinite(energy) for energy in energies):
        raise FigureError(f"--energies={text} are not numbers with commas between, as in --energies=-0.2,0")
    return energies


def _generate(given: argparse.Namespace) -> Path:
    from vdw_jax.design.trained import PRETRAINED, load_trained
    from vdw_jax.evaluate.figure_arrays import ARRAYS_NAME, Asked, FigureError, choose_formulas, make_arrays
    from vdw_jax.evaluate.generating import Job
    from vdw_jax.evaluate.reference import reference_of
    from vdw_jax.property_model.trained import load_property_model
    from vdw_jax.structures.arrays import has_record

    for name, least in (("samples", 1), ("each", 1), ("latents", 5)):
        if getattr(given, name) < least:
            raise FigureError(f"--{name} is at least {least}, not {getattr(given, name)}")
    energies = _energies(given.energies)
    path = given.out / ARRAYS_NAME
    if path.exists() and not given.overwrite:
        raise FileExistsError(f"{path} is there: draw it with `draw`, or make it again with --overwrite")
    if path.exists() and not has_record(path):
        raise FileExistsError(f"{path} was not written by an evaluation, so it will not be overwritten")
    trained = load_trained(given.checkpoint or PRETRAINED)
    names = [scalar.name for scalar in trained.model.config.scalars]
    record = {"checkpoint": str(given.checkpoint or "the weights that ship"), "command": _command()}
    independent = None
    if given.energy_model is not None:
        independent = load_property_model(given.energy_model)
        label = independent.facts.get("label")
        if not names or label != names[0]:
            raise FigureError(f"--energy_model={given.energy_model} predicts {label}, the model is asked for {names[0]}"
                              if names else "this model was trained without an energy")  # fmt: skip
        off = independent.facts["errors"]["test"]
        record["energy_model"] = f"CGCNN, off by {off:.4f} eV in its test part"
    reference = reference_of(trained.facts, allow_other=given.allow_other_data)
    if reference.problem:
        print(f"note: not the data that the model was trained on: {reference.problem}", file=sys.stderr)
    wanted = [formula for formula in given.formulas.split(",") if formula.strip()]
    formulas = choose_formulas(reference, wanted, NUM_FORMULAS, given.seed)
    asked = Asked(given.samples, given.each, energies, formulas, given.latents, given.part)
    job = Job(trained, reference, trained.schedule(given.steps), given.seed, given.out, record, quiet=given.quiet)
    path = make_arrays(job, asked, independent)
    print(f"generated {path}")
    return path


def _draw(arrays: Path, out: Path, quiet: bool) -> None:
    from vdw_jax.evaluate.figure_arrays import load_arrays
    from vdw_jax.evaluate.figure_drawing import draw_all

    for path in draw_all(load_arrays(arrays), out, _command(), quiet=quiet):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
