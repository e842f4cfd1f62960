"""Hands candidates over to other programs: `python -m vdw_jax.report.handover samples/GaInSSe2-seed0 --best=10`.

handover/
  poscar/<id>.vasp                                   VASP, VESTA
  vasp/<id>/{INCAR,KPOINTS,POSCAR,POTCAR.spec}       relaxations as the paper does them, see vasp/README.txt
  gpaw/{relax_gpaw.py,<id>.xyz}                      relaxations that run as they are
  flow.json                                          the relaxations by VASP as a jobflow Flow (atomate2)
  samples.db                                         ASE database, `ase db samples.db`; the id is `name`
  samples.parquet                                    the rows of the table
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ase.io import write as ase_write

from vdw_jax.report.candidates import HandoverError, choose, read_candidates
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.database import changed_names, write_database
from vdw_jax.report.layout import (
    DATABASE_NAME,
    FLOW_NAME,
    GPAW_SCRIPT_NAME,
    HANDOVER_DIRECTORY,
    PARQUET_NAME,
    foreign_in_format,
    is_samples,
    listed,
)
from vdw_jax.report.vasp import relax_flow, write_poscar, write_vasp
from vdw_jax.report.writer import move_into_place, write_parquet

GPAW_SCRIPT = Path(__file__).parent / "static" / GPAW_SCRIPT_NAME

Rows = Sequence[Mapping[str, Any]]


def hand_over(
    directory: str | Path,
    formats: Sequence[str],
    ids: Sequence[str] | None = None,
    best: int | None = None,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    on_note: Callable[[str], None] | None = None,
) -> list[Path]:
    """Writes candidates in the given formats: all of them, or none where one fails.

    Args:
      directory: what sample.py wrote, or what `candidates.read_candidates` reads.
      formats: keys of `FORMATS`.
      ids: which candidates; all by default.
      best: that many of the best instead.
      out: where to; `handover` in a folder of samples, and `<name>-handover` beside other structures, by default.
      overwrite: replaces what an earlier call wrote for the same formats, and only that.
      on_note: called with each thing that the user should know, one line.

    Returns:
      What is new.

    Raises:
      HandoverError: an unknown format or id, something to overwrite, a package that is missing, a disk that is full;
        one line that names the format and says what was written.
      DataError: an id that cannot be the name of a file.
    """
    formats = list(dict.fromkeys(formats))
    if unknown := [name for name in formats if name not in FORMATS]:
        raise HandoverError(f"no format {', '.join(unknown)}; there are {', '.join(FORMATS)}")
    crystals, rows = read_candidates(directory, on_note)
    places = choose(rows, ids, best)
    crystals, rows = [crystals[place] for place in places], [rows[place] for place in places]
    target = Path(out) if out is not None else _default_target(Path(directory))
    if out is None and target.is_symlink():
        raise HandoverError(
            f"{target} is a link, which is not followed; name where to write with --out"
        )
    for name in formats:
        _refuse_existing(target / FORMATS[name][0], overwrite=overwrite)
    written = _write(target, formats, crystals, rows)
    if on_note is not None and "db" in formats and (changed := changed_names(rows)):
        pairs = [f"{column!r} is {key}" for column, key in changed.items()]
        on_note(f"names that {DATABASE_NAME} cannot take are changed there: {', '.join(pairs)}")
    return written


def _default_target(source: Path) -> Path:
    if is_samples(source):
        return source / HANDOVER_DIRECTORY
    whole = source.resolve()
    return whole.with_name(f"{whole.name.split('.')[0]}-{HANDOVER_DIRECTORY}")


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise HandoverError(f"{path} is there already; choose another --out, or --overwrite")
    if path.is_symlink():
        raise HandoverError(
            f"{path} is a link, which --overwrite does not follow; delete it, or choose another --out"
        )
    if foreign := foreign_in_format(path):
        raise HandoverError(
            f"{path.parent} holds what handover did not write, and --overwrite would delete it: {listed(foreign)}; "
            "move it away, or choose another --out"
        )


def _write(
    target: Path, formats: Sequence[str], crystals: Sequence[Crystal], rows: Rows
) -> list[Path]:
    """Every format in a hidden folder first; then each takes its place."""
    is_new = not target.exists()
    written: list[Path] = []
    name = "--out"
    try:
        target.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=target))
        try:
            for name in formats:
                entry, write = FORMATS[name]
                write(building / entry, crystals, rows)
            for name in formats:
                path = target / FORMATS[name][0]
                move_into_place(building / FORMATS[name][0], path)
                written.append(path)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except Exception as error:  # the libraries of the formats have no common error
        if is_new and not written:
            with contextlib.suppress(OSError):
                target.rmdir()
        said = f"written: {', '.join(map(str, written))}" if written else "nothing was written"
        raise HandoverError(f"{name}: {_reason(error)}; {said}") from error
    return written


def _reason(error: Exception) -> str:
    """One line."""
    text = " ".join(str(error).split())
    return (
        text
        if isinstance(error, HandoverError | OSError) and text
        else f"{type(error).__name__}: {text}"
    )


def _write_poscars(directory: Path, crystals: Sequence[Crystal], rows: Rows) -> None:
    directory.mkdir()
    for crystal in crystals:
        write_poscar(directory / f"{crystal.id}.vasp", crystal)


def _write_vasp(directory: Path, crystals: Sequence[Crystal], rows: Rows) -> None:
    directory.mkdir()
    try:
        write_vasp(directory, crystals)
    except ValueError as error:
        raise HandoverError(str(error)) from None


def _write_gpaw(directory: Path, crystals: Sequence[Crystal], rows: Rows) -> None:
    directory.mkdir()
    shutil.copyfile(GPAW_SCRIPT, directory / GPAW_SCRIPT.name)
    for crystal in crystals:
        if crystal.id.endswith(".relaxed"):
            raise HandoverError(
                f"id {crystal.id!r} ends as the results of {GPAW_SCRIPT.name} do; give another one"
            )
        atoms = crystal.to_ase()
        atoms.info = {"id": crystal.id}
        ase_write(directory / f"{crystal.id}.xyz", atoms, format="extxyz")


def _write_flow(path: Path, crystals: Sequence[Crystal], rows: Rows) -> None:
    try:
        from monty.json import MontyEncoder

        flow = relax_flow(crystals)
    except ImportError as error:
        raise HandoverError(f"it needs atomate2 (pip install atomate2): {error}") from None
    path.write_text(json.dumps(flow, cls=MontyEncoder), encoding="utf-8")


FORMATS: dict[str, tuple[str, Callable[[Path, Sequence[Crystal], Rows], None]]] = {
    "poscar": ("poscar", _write_poscars),
    "vasp": ("vasp", _write_vasp),
    "gpaw": ("gpaw", _write_gpaw),
    "db": (DATABASE_NAME, write_database),
    "parquet": (PARQUET_NAME, write_parquet),
    "flow": (FLOW_NAME, _write_flow),
}
"""What each format is called in the output, and how it is written."""


if __name__ == "__main__":  # the name that it had before there was `vdw-jax handover`
    from vdw_jax.commands.handover import main

    main()
