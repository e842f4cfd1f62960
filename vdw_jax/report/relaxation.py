"""Relaxes candidates with a potential: `vdw-jax relax samples/GaInSSe2-seed0 --potential=sevennet`.

Atoms and the cell move, of a slab a and b alone (its vacuum stays). What comes out lies in `relaxed-<potential>` in the
folder of the candidates, or beside a file or folder of other structures, under the same ids: a page, CIF, extended XYZ,
and a table of the relaxed structures with what it took, what it gained and what changed. The rank is theirs. Ctrl-C
keeps what is finished; the same command goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vdw_jax.report.candidates import (
    choose,
    read_candidates,
    read_samples,
    saved_request,
)
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.describe import describe
from vdw_jax.report.layout import PAGE_NAME, RELAXED_PREFIX, REQUEST_NAME, is_samples
from vdw_jax.report.page import render_page
from vdw_jax.report.ranking import add_ranks, is_number
from vdw_jax.report.relaxing import KEYS, MOST_STEPS, relax_crystal
from vdw_jax.report.table import text_table
from vdw_jax.report.writer import refuse_existing, write_samples
from vdw_jax.structures.potentials import create_calculator
from vdw_jax.training.interrupt import GracefulExit
from vdw_jax.training.progress import Progress

INTERRUPTED = "not relaxed: interrupted"
"""The problem of those that were not reached."""

def relax_crystals(
    crystals: Sequence[Crystal],
    rows: Sequence[Mapping[str, Any]],
    calculator: Any,
    *,
    most_steps: int = MOST_STEPS,
    potential: str | None = None,
    spreads: Mapping[str, float] | None = None,
    layer_ranges: Mapping[str, Any] | None = None,
    quiet: bool = True,
) -> tuple[list[Crystal], list[dict[str, Any]]]:
    """Relaxed copies, and their rows: what they say is of the relaxed structures, the rank too.

    Added are `relaxed_...`, what `relax_crystal` says; `relaxed_by`, the potential; and `unrelaxed_...`, what the row
    said before, for all that is measured on the structure and for the rank. Ctrl-C (or SIGTERM) ends it: what is
    finished stays, the others are as they were, with `INTERRUPTED` as their problem.

    Args:
      crystals: candidates.
      rows: for each its row of the table.
      calculator: as for `relax_crystal`.
      most_steps: of each relaxation.
      potential: what the calculator is called.
      spreads: standard deviation of each target, as for `ranking.add_ranks`.
      layer_ranges: of the training data, as for `describe.describe`.
      quiet: shows no progress line.
    """
    relaxed, told = [], []
    with GracefulExit() as stop, Progress(len(crystals), "relaxing", quiet) as progress:

        def on_step() -> None:
            if stop.requested:
                raise KeyboardInterrupt

        is_stopped = False
        for count, (start, given) in enumerate(zip(crystals, rows, strict=True), 1):
            crystal, found = start, dict.fromkeys(KEYS) | {"problem": INTERRUPTED}
            if not is_stopped:
                try:
                    crystal, found = relax_crystal(
                        start, calculator, most_steps=most_steps, on_step=on_step
                    )
                    progress.update(count)
                except KeyboardInterrupt:
                    is_stopped = True
            relaxed.append(crystal)
            told.append(_relaxed_row(start, crystal, given, found, potential, layer_ranges))
    return relaxed, add_ranks(told, spreads)


def _relaxed_row(
    start: Crystal,
    crystal: Crystal,
    given: Mapping[str, Any],
    found: Mapping[str, Any],
    potential: str | None,
    layer_ranges: Mapping[str, Any] | None,
) -> dict[str, Any]:
    described = describe(crystal, layer_ranges=layer_ranges)
    measured = {key: value for key, value in described.items() if key not in ("formula", "atoms")}
    if given.get("untrained") and given.get("valid") is None:
        measured["valid"] = None  # nothing is known of such elements, relaxed or not
    is_known = measured.keys() <= given.keys()
    before = {} if is_known else describe(start, layer_ranges=layer_ranges)
    former = {key: given.get(key, before.get(key)) for key in measured}
    former["rank"] = given.get("rank")
    row = {"id": crystal.id, "formula": crystal.formula} | dict(given)
    if crystal is not start:  # what a reference model said is of the structure before
        former |= {key: row.pop(key) for key in given if _is_of_reference(key)}
    row |= measured | {f"relaxed_{key}": value for key, value in found.items()}
    row["relaxed_by"] = potential
    return row | {f"unrelaxed_{key}": value for key, value in former.items()}


def _is_of_reference(key: str) -> bool:
    return key == "reference_model" or key.startswith("evaluated_") and key != "evaluated_by"


def relax_samples(
    directory: str | Path,
    potential: str,
    ids: Sequence[str] | None = None,
    best: int | None = None,
    *,
    calculator: Any = None,
    most_steps: int = MOST_STEPS,
    out: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    on_note: Callable[[str], None] | None = None,
) -> tuple[Path, list[dict[str, Any]]]:
    """Relaxes what sample.py wrote, or the structures of a file, as `relax_crystals` does.

    Where an earlier call was interrupted, it goes on with those that were not reached.

    Args:
      directory: what sample.py wrote, or what `candidates.read_candidates` reads.
      potential: as for `potentials.create_calculator`; names the new folder.
      ids, best: as for `candidates.choose`.
      calculator: that of the potential, if it is there already.
      most_steps: of each relaxation.
      out: the new folder; by default `relaxed-<potential>` in a folder of samples, and
        `<name>-relaxed-<potential>` beside other structures.
      overwrite: replaces an earlier output, and only that.
      quiet: shows no progress line.
      on_note: called with each thing that the user should know, one line.

    Returns:
      The new folder, and its rows.

    Raises:
      HandoverError: no structures there, or an unknown id.
      DataError: no such potential, or it is not installed; an id that cannot be the name of a file.
      FileExistsError: there is one already, and it is finished or of other candidates.
      OSError: it cannot be written.
    """
    crystals, rows = read_candidates(directory, on_note)
    places = choose(rows, ids, best)
    crystals, rows = [crystals[place] for place in places], [rows[place] for place in places]
    target = Path(out) if out is not None else _default_target(Path(directory), potential)
    if out is None and target.is_symlink():
        raise FileExistsError(
            f"{target} is a link, which is not followed; name where to write with --out"
        )
    earlier = {} if overwrite else _interrupted(target, crystals, potential)
    refuse_existing(target, overwrite=overwrite or bool(earlier))
    calculator = create_calculator(potential) if calculator is None else calculator
    request = saved_request(Path(directory))
    spreads, layer_ranges = _ranking_of(request)
    going = [place for place, crystal in enumerate(crystals) if crystal.id not in earlier]
    found = relax_crystals(
        [crystals[place] for place in going],
        [rows[place] for place in going],
        calculator,
        most_steps=most_steps,
        potential=potential,
        spreads=spreads,
        layer_ranges=layer_ranges,
        quiet=quiet,
    )
    done = earlier | {row["id"]: (crystal, row) for crystal, row in zip(*found, strict=True)}
    relaxed = [done[crystal.id][0] for crystal in crystals]
    told = add_ranks([done[crystal.id][1] for crystal in crystals], spreads)
    record = {**request, "relaxed": potential}
    extra = {PAGE_NAME: render_page(relaxed, told, record)}
    if request:
        extra[REQUEST_NAME] = json.dumps(record, indent=2) + "\n"
    write_samples(target, relaxed, told, overwrite=overwrite or bool(earlier), extra=extra)
    return target, told


def _ranking_of(request: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any] | None]:
    """Spreads of the targets and ranges of the layers, where a saved request holds them as `sample.py` writes them."""
    ranking = request.get("ranking")
    if not isinstance(ranking, dict):
        return {}, None
    spreads, ranges = ranking.get("spreads"), ranking.get("layer_ranges")
    if not isinstance(spreads, dict) or not all(is_number(value) for value in spreads.values()):
        spreads = {}
    if not isinstance(ranges, dict) or "num_layers" not in ranges or not all(map(_is_range, ranges.values())):
        ranges = None
    return spreads, ranges


def _is_range(ends: Any) -> bool:
    return isinstance(ends, list) and len(ends) == 2 and all(map(is_number, ends))


def _default_target(source: Path, potential: str) -> Path:
    name = RELAXED_PREFIX + re.sub(r"[^A-Za-z0-9_.+-]", ".", potential)
    if is_samples(source):
        return source / name
    whole = source.resolve()
    return whole.with_name(f"{whole.name.split('.')[0]}-{name}")


def _interrupted(
    target: Path, crystals: Sequence[Crystal], potential: str
) -> dict[str, tuple[Crystal, dict[str, Any]]]:
    """What an interrupted call finished, by id; nothing where there was none, or it was of other candidates."""
    if not is_samples(target):
        return {}
    try:
        relaxed, rows = read_samples(target)
    except ValueError:
        return {}
    unfinished = [row.get("relaxed_problem") == INTERRUPTED for row in rows]
    if not any(unfinished) or [crystal.id for crystal in relaxed] != [
        crystal.id for crystal in crystals
    ]:
        return {}
    for crystal, start, row, is_left in zip(relaxed, crystals, rows, unfinished, strict=True):
        is_same = (
            np.array_equal(crystal.atomic_numbers, start.atomic_numbers)
            and row.get("relaxed_by") == potential
        )
        if (
            not is_same
            or is_left
            and not np.allclose(crystal.positions, start.centred_positions(), atol=1e-6)
        ):
            return {}
    return {
        crystal.id: (crystal, row)
        for crystal, row, is_left in zip(relaxed, rows, unfinished, strict=True)
        if not is_left
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Table of the candidates, a line of means, and what went wrong."""
    if not rows:
        return "no candidates to relax"
    shown = {
        "id": "id", "formula": "formula", "relaxed_converged": "converged", "relaxed_steps": "steps",
        "relaxed_energy_gained_ev": "gained (eV)", "relaxed_gap_before": "gap before (A)",
        "relaxed_gap_after": "gap (A)", "relaxed_strain": "strain",
        "relaxed_formation_energy_ev": "formation (eV)", "relaxed_binding_energy_ev_per_a2": "binding (eV/A2)",
        "relaxed_stacking_kept": "stacking kept",
    }  # fmt: skip
    table = text_table(
        [{title: row.get(key) for key, title in shown.items()} for row in rows], max_rows=20
    )

    def mean(key: str) -> str:
        values = [row.get(f"relaxed_{key}") for row in rows if not row.get("relaxed_problem")]
        finite = [float(value) for value in values if value is not None and np.isfinite(value)]
        return f"{np.mean(finite):.3g}" if finite else "-"

    done = sum(bool(row.get("relaxed_converged")) for row in rows)
    means = (
        f"{mean('steps')} steps, {mean('energy_gained_ev')} eV gained, gap {mean('gap_before')} to "
        f"{mean('gap_after')} A, atoms moved {mean('moved')} A at most"
    )
    lines = [table, f"{done} of {len(rows)} converged; on average {means}", *_problems(rows)]
    if left := num_interrupted(rows):
        lines.append(f"interrupted: {left} of {len(rows)} are not relaxed")
    return "\n".join(lines)


def num_interrupted(rows: Sequence[Mapping[str, Any]]) -> int:
    """Candidates that were not reached."""
    return sum(row.get("relaxed_problem") == INTERRUPTED for row in rows)


def _problems(rows: Sequence[Mapping[str, Any]], most: int = 5) -> list[str]:
    failed = [row for row in rows if row.get("relaxed_problem") not in (None, INTERRUPTED)]
    lines = [f"{row['id']} stays as it was: {row['relaxed_problem']}" for row in failed[:most]]
    return lines + (
        [f"and {len(failed) - most} more, see relaxed_problem"] if len(failed) > most else []
    )


if __name__ == "__main__":  # the name that it had before there was `vdw-jax relax`
    from vdw_jax.commands.relax import main

    main()
