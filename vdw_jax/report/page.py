"""`report.html`: the candidates as one page that needs nothing else, to sort, filter and look at.

Made by hand from the files in `static/`; the structures are drawn by 3Dmol.js (BSD-3-Clause, `static/3Dmol.LICENSE`).
What comes from data gets into the page as JSON only, the page's code puts it there as text only, and no other code may
run: the page names its own by their hashes, and may ask no address for anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from numpy.typing import NDArray

from vdw_jax.metrics.layers import BOND_FACTOR
from vdw_jax.report.crystal import Crystal
from vdw_jax.report.layout import PAGE_NAME as PAGE_NAME
from vdw_jax.report.ranking import asked_ranges, column_of, is_number, rule
from vdw_jax.report.untrained import untrained_reasons
from vdw_jax.structures.elements import SYMBOLS

HISTOGRAM_BINS = 40
MOST_CANDIDATES = 2000
"""The best of them; a page of more would take long to open."""

_STATIC = Path(__file__).parent / "static"
_SCRIPTS = ("table.js", "plots.js", "viewer.js", "main.js")

_COLOURS = {"Al": "#9ecae1", "Ga": "#3b7dbd", "In": "#7b4fa3", "S": "#f2d11b", "Se": "#f08c1a", "Te": "#a8431f"}
"""The III-VI elements, which Jmol's colours hardly tell apart: metals cold, chalcogens warm."""

_UNITS = {"_ev_per_a2": "eV/Å²", "_ev_per_atom": "eV/atom", "_ev": "eV", "_angstrom": "Å", "_degrees": "°"}
_LABELS = {
    "min_distance_angstrom": "shortest distance",
    "layer_names": "layers",
    "layers": "number of layers",
    "bilayer": "two layers",
    "novel": "new",
    "spacegroup": "space group",
    "known_as": "in the training data as",
    "repeats": "same as",
    "nearest_training": "nearest in the training data",
    "nearest_rms_angstrom": "from nearest known",
    "formula_swaps": "atoms from a known formula",
    "formula_met": "formula met",
    "chemical_system_met": "elements met",
    "on_front": "on Pareto front",
    "relaxed_by": "relaxed by",
    "relaxed_converged": "relaxation converged",
    "relaxed_gap_before": "gap before relaxation",
    "relaxed_gap_after": "gap after relaxation",
    "structure_valid": "distances valid",
    "composition_valid": "composition valid",
    "evaluated_by": "source of values",
    "untrained": "outside the training",
}
_PREFIXES = {
    "asked_": "asked",
    "predicted_": "got",
    "evaluated_": "reference model",
    "miss_": "miss",
    "unrelaxed_": "unrelaxed",
    "relaxed_": "relaxed",
}
"""How a column of such a name is headed, behind what it is about."""
_HINTS = {
    "valid": "distances, charge, whole layers, and their number, distance and thickness as in the training data",
    "problems": "why a candidate is not valid",
    "nearest_rms_angstrom": "root mean square displacement to the nearest training structure of the same atoms; "
    "another stacking is about 1 Å away",
    "novel": "no structure of the training data matches at a tolerance that tells stackings apart",
    "formula_swaps": "atoms to exchange, add or remove until a training structure has these atoms",
}
"""Shown where the pointer rests on a column's head."""

_IN_TABLE = ("rank", "id", "formula", "formula_met", "chemical_system_met", "on_front", "valid", "bilayer", "novel",
             "lattice_constant_angstrom", "gap_angstrom", "layer_names", "spacegroup",
             "nearest_rms_angstrom", "relaxed_converged", "relaxed_energy_gained_ev",
             "relaxed_formation_energy_ev", "relaxed_by")  # fmt: skip
"""Columns of the table besides what was asked and got; the rest is shown with the structure."""


def render_page(
    crystals: Sequence[Crystal],
    rows: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any] | None = None,
    training: Mapping[str, NDArray[np.floating]] | None = None,
) -> str:
    """The page as HTML.

    Args:
      crystals: the candidates.
      rows: for each its row of the table with its rank, as `ranking.add_ranks` makes them.
      record: what made them, as `design.saved.describe_run` says it, shown as it is.
      training: labels of the training data by target, any order; not finite ones are left out. A target without gets
        no histogram.

    Raises:
      ValueError: not one row for each crystal.
    """
    if len(crystals) != len(rows):
        raise ValueError(f"{len(crystals)} crystals but {len(rows)} rows")
    order = sorted(range(len(rows)), key=lambda index: rows[index].get("rank", index))[:MOST_CANDIDATES]
    left_out = len(rows) - len(order)
    crystals, rows = [crystals[index] for index in order], [rows[index] for index in order]
    columns = _columns(rows)
    title = _title(rows)
    data = {
        "title": title,
        "rule": rule(rows),
        "left_out": left_out,
        "untrained": untrained_reasons(rows),
        "record": record or {},
        "columns": columns,
        "rows": [[_plain(row.get(column["key"])) for column in columns] for row in rows],
        "structures": [_structure(crystal) for crystal in crystals],
        "elements": element_styles(crystals),
        "bond_factor": BOND_FACTOR,
        "targets": _targets(rows, training or {}),
    }
    script = '(() => {\n"use strict";\n' + "\n".join(map(_asset, _SCRIPTS)) + "})();"
    viewer = _asset("3Dmol-min.js")
    parts = {
        "title": html.escape(title),
        "data": json_for_script(data),
        "style": _asset("page.css"),
        "script": script,
        "viewer": viewer,
        "hashes": " ".join(map(_script_hash, (script, viewer))),
        "licence": _asset("3Dmol.LICENSE"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))


def json_for_script(value: Any) -> str:
    """JSON that may stand in a script element: no `<`, `>` or `&`, no line separators.

    Raises:
      ValueError: NaN or infinity.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def label_and_unit(key: str) -> tuple[str, str]:
    """How a column is headed: `formation_energy_ev` -> ("formation energy", "eV")."""
    if key in _LABELS:
        return _LABELS[key], next((unit for suffix, unit in _UNITS.items() if key.endswith(suffix)), "")
    for prefix, shown in _PREFIXES.items():
        if key.startswith(prefix):
            name, unit = label_and_unit(key.removeprefix(prefix))
            return f"{name}, {shown}", unit
    suffix = next((suffix for suffix in _UNITS if key.endswith(suffix)), "")
    return key.removesuffix(suffix).replace("_", " "), _UNITS.get(suffix, "")


def _script_hash(script: str) -> str:
    """As the page's security policy names a script that may run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _asset(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _title(rows: Sequence[Mapping[str, Any]]) -> str:
    asked = []
    for key in rows[0] if rows else ():
        if key.startswith("asked_") and rows[0][key] is not None and _constant(rows, key):
            name, unit = label_and_unit(key.removeprefix("asked_"))
            value = rows[0][key]
            shown = f"{value:g}".replace("-", "−") if is_number(value) else str(value)
            asked.append(shown if name == "formula" else f"{name} {shown} {unit}".rstrip())
    return f"Candidates for {', '.join(asked)}" if asked else "Candidates"


def _constant(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return all(row.get(key) == rows[0].get(key) for row in rows)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    keys = list(dict.fromkeys(["rank", "id", "formula", *(key for row in rows for key in row)]))
    predicted = [key.removeprefix("predicted_") for key in keys if key.startswith("predicted_")]
    asked = [name for name in predicted if f"miss_{name}" in keys] or predicted
    columns: list[dict[str, Any]] = []
    for key in keys:
        values = [row[key] for row in rows if row.get(key) is not None]
        label, unit = label_and_unit(key)
        if len(asked) == 1 and key.split("_", 1)[-1] == asked[0]:
            label = label.rpartition(", ")[2]  # the title names the one target
        got = key.startswith(("predicted_", "evaluated_", "miss_")) and key.split("_", 1)[1] in asked
        varies = key.startswith("asked_") and not _constant(rows, key)
        columns.append({
            "key": key,
            "label": label,
            "unit": unit,
            "hint": _HINTS.get(key, ""),
            "kind": _kind(values),
            "shown": key in _IN_TABLE or got or varies,
        })  # fmt: skip
    targets = [key for key in keys if key.startswith(("asked_", "predicted_", "evaluated_", "miss_"))]
    first = {key: place for place, key in enumerate([*_IN_TABLE[:3], *targets, *_IN_TABLE[3:]])}
    return sorted(columns, key=lambda column: first.get(column["key"], len(first)))


def _kind(values: Sequence[Any]) -> str:
    if values and all(isinstance(value, bool | np.bool_) for value in values):
        return "verdict"
    if values and all(isinstance(value, int | np.integer) for value in values):
        return "count"
    return "number" if values and all(isinstance(value, int | float | np.number) for value in values) else "text"


def _plain(value: Any) -> Any:
    """What JSON knows: numbers with six figures, None for those that are not finite."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _structure(crystal: Crystal) -> dict[str, Any]:
    """Numbers [n], positions and cell flat, 1e-4 Angstrom."""
    return {
        "numbers": crystal.atomic_numbers.tolist(),
        "positions": np.round(crystal.centred_positions().ravel(), 4).tolist(),
        "cell": np.round(crystal.cell.ravel(), 4).tolist(),
        "slab": crystal.is_slab,
    }


def element_styles(crystals: Sequence[Crystal]) -> dict[str, dict[str, Any]]:
    """`symbol`, `colour` and covalent `radius` (Angstrom) by atomic number."""
    present = sorted({int(number) for crystal in crystals for number in crystal.atomic_numbers})
    elements = {}
    for number in present:
        symbol = SYMBOLS[number - 1] if 1 <= number <= len(SYMBOLS) else f"Z{number}"
        known = 0 < number < len(jmol_colors)
        jmol = "#" + "".join(f"{round(255 * part):02x}" for part in jmol_colors[number if known else 0])
        radius = float(covalent_radii[number if known else 0])
        elements[str(number)] = {"symbol": symbol, "colour": _COLOURS.get(symbol, jmol), "radius": radius}
    return elements


def _targets(rows: Sequence[Mapping[str, Any]], training: Mapping[str, NDArray]) -> list[dict[str, Any]]:
    """Numbers that were asked or predicted, each with its range of bins and the training data in them."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith(("asked_", "predicted_")))
    targets = []
    ranges = asked_ranges(rows[0]) if rows else {}
    ends = {f"{name}{end}" for name in ranges for end in ("_min", "_max")} - ranges.keys()
    for name in dict.fromkeys(key.split("_", 1)[1] for key in keys):
        if name in ends:
            continue
        column = column_of(rows, name)
        asked, got = [row.get(f"asked_{name}") for row in rows], [row.get(column) for row in rows]
        values = [float(value) for value in (*asked, *got, *ranges.get(name, ())) if is_number(value)]
        if not values:
            continue
        label, unit = label_and_unit(name)
        labels = np.asarray(training.get(name, ()), float)
        labels = labels[np.isfinite(labels)]
        low, high = (float(pick([*values, *labels])) for pick in (min, max))
        margin = 0.02 * (high - low) or 1.0
        low, high = low - margin, high + margin
        counts = np.histogram(labels, HISTOGRAM_BINS, (low, high))[0].tolist() if len(labels) else None
        targets.append({
            "label": label,
            "unit": unit,
            "asked": f"asked_{name}" if any(map(is_number, asked)) else None,
            "got": column,
            "range": [_plain(low), _plain(high)],
            "training": counts,
        })  # fmt: skip
    return targets
