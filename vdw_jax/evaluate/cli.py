"""Measures a generator: reconstruction, generation from nothing, and design as asked for.

    python -m vdw_jax.evaluate generation --checkpoint=runs/j2dh8 --out=results/j2dh8
    python -m vdw_jax.evaluate all --checkpoint=runs/j2dh8 --out=results/j2dh8 --only=generate    # on the accelerator
    python -m vdw_jax.evaluate all --out=results/j2dh8 --only=score --workers=16                  # on CPU cores
    python -m vdw_jax.evaluate reconstruction --structures=rival/ --truth=true/ --out=results/rival
    python -m vdw_jax.evaluate page results/j2dh8/summary.json --out=RESULTS.md
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdw_jax.training.seeds import seed_argument

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    from vdw_jax.evaluate.reference import Reference
    from vdw_jax.evaluate.scoring import EnergyModel
    from vdw_jax.types import Periodicity

PARTS = ("reconstruction", "generation", "conditional")
FAMILIES = ("j2dh8", "iii_vi")
"""Those of `evaluate.reference`."""


class UsageError(ValueError):
    """The command line asks for something that cannot be done; one line that a person can act on."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    text = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="python -m vdw_jax.evaluate", description=__doc__, formatter_class=text, allow_abbrev=False
    )
    commands = top.add_subparsers(required=True, dest="part")
    lines = {
        "reconstruction": "test structures through the latent and back",
        "generation": "samples with nothing asked for",
        "conditional": "energies and formulas asked for",
        "all": "the three, into one summary",
    }
    for part, line in lines.items():
        command = commands.add_parser(part, help=line, allow_abbrev=False)
        _add_common(command)
        if part in ("reconstruction", "all"):
            names = ["--reconstructions"] if part == "all" else ["--samples", "--reconstructions"]
            command.add_argument(*names, dest="reconstructions", type=int, metavar="N", help="default: the whole part")
        if part == "reconstruction":
            command.add_argument("--truth", type=Path, metavar="PATH",
                                 help="with --structures: the true ones, by id or else in the same order")  # fmt: skip
        if part in ("generation", "all"):
            command.add_argument("--samples", type=int, default=9600, metavar="N")
            command.add_argument("--references", type=int, metavar="N",
                                 help="structures of the test part to compare with; all by default")  # fmt: skip
        if part in ("conditional", "all"):
            names = ["--each"] if part == "all" else ["--samples", "--each"]
            command.add_argument(*names, dest="each", type=int, default=20, metavar="N", help="candidates a wish")
            command.add_argument("--energies", type=int, default=10, metavar="N", help="energies to ask for")
            command.add_argument("--formulas", type=int, default=50, metavar="N", help="formulas to ask for")
            command.add_argument("--energy_model", metavar="DIR",
                                 help="independent property model: what vdw_jax.property_model.train wrote, or "
                                      "module:function from a list of crystals to energies in eV")  # fmt: skip
        if part == "conditional":
            command.add_argument("--asked", type=Path, metavar="CSV",
                                 help="with --structures: id, asked_formula, asked_energy_ev")  # fmt: skip
    page = commands.add_parser("page", help="RESULTS.md from summaries", allow_abbrev=False)
    page.add_argument("summaries", type=Path, nargs="+", metavar="SUMMARY")
    page.add_argument("--out", type=Path, help="file to write; the terminal by default")
    return top


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("evaluation"), help="folder; parts share its summary.json")
    command.add_argument("--checkpoint", type=Path, help="workdir or export of train.py; what ships by default")
    command.add_argument("--structures", type=Path, metavar="PATH",
                         help="score these instead: any file or folder that `check` reads")  # fmt: skip
    command.add_argument("--periodicity", choices=("auto", "slab", "bulk"), default="auto",
                         help="with --structures: what they are; default: what the data or the files say")  # fmt: skip
    command.add_argument("--only", choices=("generate", "score"), help="one half; the other may run elsewhere")
    command.add_argument("--data", help="data set by name, or a file; that of the checkpoint by default")
    command.add_argument("--split", choices=("structure", "pair"), help="that of the checkpoint by default")
    command.add_argument("--family", choices=(*FAMILIES, "all"),
                         help="of the test part; default: j2dh8 for reconstruction, else all")  # fmt: skip
    command.add_argument("--allow_other_data", action="store_true",
                         help="evaluate against data that the model was not trained on")  # fmt: skip
    command.add_argument("--seed", type=seed_argument, default=0)
    command.add_argument("--steps", type=int, metavar="N", help="network calls; the checkpoint's by default")
    command.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that score")
    command.add_argument("--cache", type=Path, metavar="DIR", help="for fingerprints; the user's cache by default")
    command.add_argument("--overwrite", action="store_true", help="replace arrays generated before")
    command.add_argument("--quiet", action="store_true", help="no progress")


def main() -> None:
    """Entry point."""
    given = parser().parse_args()
    try:
        if given.part == "page":
            _page(given)
        else:
            _check(given)
            _run(given)
    except (ValueError, OSError) as error:  # a full disk too
        print(f"vdw_jax.evaluate: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _check(given: argparse.Namespace) -> None:
    for name in ("samples", "references", "reconstructions", "each", "workers"):
        value = getattr(given, name, None)
        if value is not None and value < 1:
            raise UsageError(f"--{name} is at least 1, not {value}")
    if given.structures is not None:
        if given.part == "all":
            raise UsageError("--structures scores one part: reconstruction, generation or conditional")
        if given.checkpoint is not None or given.only == "generate":
            raise UsageError("--structures takes no --checkpoint and nothing is generated")
        if given.part == "reconstruction" and given.truth is None:
            raise UsageError("--structures needs --truth: what they are reconstructions of")
    elif given.periodicity != "auto":
        raise UsageError("--periodicity goes with --structures")
    elif getattr(given, "truth", None) is not None or getattr(given, "asked", None) is not None:
        raise UsageError("--truth and --asked go with --structures")


def _run(given: argparse.Namespace) -> None:
    parts = PARTS if given.part == "all" else (given.part,)
    if given.structures is None and given.only != "score":
        _generate(given, parts)
    if given.only != "generate":
        for part in parts:
            _score(given, part)


def _command() -> str:
    return shlex.join(["python", "-m", "vdw_jax.evaluate", *sys.argv[1:]])


def _generate(given: argparse.Namespace, parts: tuple[str, ...]) -> None:
    """The half for the device."""
    there = [given.out / f"{part}.npz" for part in parts if (given.out / f"{part}.npz").exists()]
    if there and not given.overwrite:
        raise FileExistsError(f"{there[0]} is there: score it with --only=score, or make it again with --overwrite")
    from vdw_jax.structures.arrays import has_record

    if foreign := [path for path in there if not has_record(path)]:
        raise FileExistsError(f"{foreign[0]} was not written by an evaluation, so it will not be overwritten")
    from vdw_jax.design.trained import PRETRAINED, load_trained
    from vdw_jax.evaluate import generating
    from vdw_jax.evaluate.reference import reference_of

    checkpoint = given.checkpoint or PRETRAINED
    trained = load_trained(checkpoint)
    reference = reference_of(trained.facts, given.split, given.data, allow_other=given.allow_other_data)
    if reference.problem:
        print(f"note: not the data that the model was trained on: {reference.problem}", file=sys.stderr)
    record = {"checkpoint": str(given.checkpoint or "the weights that ship"), "command": _command()}
    job = generating.Job(
        trained, reference, trained.schedule(given.steps), given.seed, given.out, record, quiet=given.quiet
    )
    for part in parts:
        family = _family(given, part, reference)
        if part == "reconstruction":
            path = generating.generate_reconstruction(job, given.reconstructions, family)
        elif part == "generation":
            path = generating.generate_samples(job, given.samples, family)
        else:
            path = generating.generate_conditional(job, given.each, given.energies, given.formulas)
        print(f"generated {path}")


def _family(given: argparse.Namespace, part: str, reference: Reference) -> str:
    if given.family is not None:
        return given.family
    families = reference.settings["source"].split("+")
    return "j2dh8" if part == "reconstruction" and "j2dh8" in families else "all"


def _score(given: argparse.Namespace, part: str) -> None:
    """The half for CPU cores."""
    from vdw_jax.evaluate import scoring
    from vdw_jax.evaluate.summary import refuse_foreign, write_scores

    refuse_foreign(given.out, part)
    started = time.monotonic()
    references = getattr(given, "references", None)
    settings = scoring.Settings(given.workers, given.seed, not given.quiet, references, given.cache)
    samples, reference = _read(given, part)
    if part == "reconstruction":
        scored = scoring.score_reconstruction(samples, settings)
    elif part == "generation":
        family = given.family or samples.record.get("family", "all")
        scored = scoring.score_generation(samples, reference or _stored(samples.record), family, settings)
    else:
        model = energy_model(given.energy_model) if given.energy_model else None
        scored = scoring.score_conditional(samples, settings, model)
    record = {key: value for key, value in samples.record.items() if key not in ("part", "predicted", "periodicity")}
    record |= {"score_seconds": round(time.monotonic() - started, 1), "score_workers": given.workers,
               "score_command": _command()}  # fmt: skip
    path = write_scores(given.out, part, scored, record)
    for name, (value, low, high) in scored.measures.items():
        print(f"{name:28s} {value:8.4f}   {low:.4f} to {high:.4f}")
    for name, note in scored.notes.items():
        print(f"{name:28s} {note}")
    print(f"{part}: {len(scored.rows)} structures scored in {time.monotonic() - started:.0f} s; {path}")


def _stored(record: dict[str, Any]) -> Reference:
    from vdw_jax.evaluate.reference import load_reference

    return load_reference(record["data"], record["data_hash"])


def _read(given: argparse.Namespace, part: str):
    """Samples, and the reference where it is not that of a record."""
    from vdw_jax.evaluate import samples as reading
    from vdw_jax.evaluate.reference import load_reference
    from vdw_jax.types import SLAB

    if given.structures is None:
        path = given.out / f"{part}.npz"
        if not path.exists():
            raise UsageError(f"{path} is not there: generate it first, or score files with --structures")
        return reading.load_samples(path), None
    settings = _data_settings(given)
    reference = None
    periodicity: str | Periodicity = given.periodicity
    if part == "generation" or given.data is not None:
        reference = load_reference(settings)
        periodicity = _agreed(given.periodicity, reference.data.periodicity)
    truths = None
    if part == "reconstruction":
        truths = reading.read_structures(given.truth, periodicity, all_usable=True)
        # What the true structures are, the others should be: without vacuum they are no slabs.
        periodicity = truths.periodicity if periodicity == "auto" else periodicity
    read = reading.read_structures(given.structures, periodicity)
    record: dict[str, Any] = {
        "structures": str(given.structures), "device": "none", "seed": given.seed, "command": _command(),
        "date": datetime.date.today().isoformat(), "data": settings,
        "data_hash": reference.data_hash if reference else "",
        "read_as": "slabs" if read.periodicity == SLAB else "crystals",
    }  # fmt: skip
    if part == "generation":
        return reading.Samples(read.crystals, record), reference
    if truths is not None:
        paired, how = reading.pair_up(read.crystals, truths.crystals)
        return reading.Samples(paired, record | {"truth": str(given.truth), "paired_by": how}, truths.crystals), None
    columns: list[dict[str, Any]] = read.asked
    origin = str(given.asked or given.structures)
    if given.asked is not None:
        table = reading.read_asked(given.asked)
        missing = [crystal.id for crystal in read.crystals if crystal.id not in table]
        if missing:
            raise UsageError(f"{given.asked}: no row with id {missing[0]!r}")
        columns = [dict(table[crystal.id]) for crystal in read.crystals]
    return reading.Samples(read.crystals, record, asked=reading.asked_of(read.crystals, columns, origin)), None


def _agreed(told: str, of_data: Periodicity) -> str | Periodicity:
    """What the structures should be, where there is a data set to hold them against.

    Raises:
        UsageError: something else is told.
    """
    from vdw_jax.types import SLAB

    name = "slab" if of_data == SLAB else "bulk"
    if told == "auto":
        return of_data
    if told != name:
        raise UsageError(f"--periodicity={told}, but the data set holds {name} structures; name another with --data")
    return told


def _data_settings(given: argparse.Namespace) -> dict[str, Any]:
    from vdw_jax.structures.source import SOURCES

    named = given.data or "j2dh8"
    is_file = named not in SOURCES
    if is_file and not Path(named).exists():
        raise UsageError(f"--data={named}: no such file, nor a data set ({', '.join(SOURCES[:-1])})")
    return {
        "source": "file" if is_file else named, "path": named if is_file else "", "properties": [],
        "max_atoms": 1000, "split": given.split or "structure", "split_seed": 0,
    }  # fmt: skip


def energy_model(name: str) -> EnergyModel:
    """What `module:function` names, or a trained `property_model` by its directory.

    Raises:
        UsageError: no such module, no such function in it, or no property model there.
    """
    from vdw_jax.evaluate.scoring import EnergyModel
    from vdw_jax.property_model.trained import load_property_model
    from vdw_jax.report.samples import as_dataset
    from vdw_jax.structures.errors import DataError

    module, _, function = name.partition(":")
    if not function:
        try:
            trained = load_property_model(name)
        except DataError as error:
            raise UsageError(f"--energy_model={name}: {error}") from error

        def predict(crystals):
            return trained.predict(as_dataset(crystals).batch())

        off = trained.facts["errors"]["test"]
        return EnergyModel(f"CGCNN in {name}, off by {off:.4f} eV in its test part", predict)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--energy_model={name}: {error}") from error
    if not callable(found):
        raise UsageError(f"--energy_model={name}: no function")
    return EnergyModel(name, found)


def _page(given: argparse.Namespace) -> None:
    from vdw_jax.evaluate.summary import read_summary, results_page
    from vdw_jax.report.writer import write_text_atomically

    found = [read_summary(path) for path in given.summaries]

    def name(summary: dict[str, Any]) -> str:
        splits = {record["data"]["split"] for record in summary["records"].values()}
        return f"split by {' and '.join(sorted(splits))}" if len(found) > 1 else ""

    text = results_page([(name(summary), summary) for summary in found])
    if given.out is None:
        print(text)
    else:
        write_text_atomically(given.out, text)


__all__ = ["UsageError", "energy_model", "main", "parser"]
