"""The page of results, made from measured figures: what, ours, the paper's, and what chance gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Measure:
    """A line of the table; texts stand as they are shown."""

    label: str
    paper: str = "-"
    chance: str = "-"
    is_share: bool = False
    """Measured between 0 and 1, shown in percent."""
    decimals: int = 4


MEASURES: Mapping[str, Measure] = {
    "match_rate": Measure("match rate (stol 0.5)", "25.35 %", is_share=True, decimals=2),
    "rmse": Measure("RMSE of the matches", "0.1842", "0.182 on relaxed cells, 0.174 on ideal cells"),
    "tight_match_rate": Measure("match rate (stol 0.1)", is_share=True, decimals=2),
    "sequence_rate": Measure("right species sequence along c", is_share=True, decimals=2),
    "registry_accuracy": Measure("registry accuracy", chance="16.67 %", is_share=True, decimals=2),
    "structure_validity": Measure("validity, structure", "100 %", is_share=True, decimals=2),
    "composition_validity": Measure("validity, composition", "100 %", is_share=True, decimals=2),
    "coverage_recall": Measure("COV-R", "100 %", is_share=True, decimals=2),
    "coverage_precision": Measure("COV-P", "87.41 %", is_share=True, decimals=2),
    "density_distance": Measure("Wasserstein distance, density (g/cm^3)", "0.1067"),
    "elements_distance": Measure("Wasserstein distance, number of elements", "0.0964"),
    "bilayer_rate": Measure("bilayers (two layers, gap 2.5 to 4.5 A)", is_share=True, decimals=2),
    "distances_share": Measure("all distances above 1.5 A", is_share=True, decimals=2),
    "asked_energy_error_ev": Measure("asked against predicted energy, mean absolute error (eV)"),
    "asked_formula_share": Measure("asked formula met", is_share=True, decimals=2),
}
"""Known measures by key. Paper: its own data (J2DH-8 as relaxed there). Chance: right elements, the
stacking picked blindly among the six."""

_CONTEXT = ("device", "seed", "command", "date")


def results_markdown(results: Mapping[str, Any]) -> str:
    """RESULTS.md from measured figures.

    Args:
      results: `{"title": ..., "sections": [section, ...]}`, a section being `{"title", "device", "seed",
        "command", "date", "measures": {key: number}}` with, if wanted, `"note"` (a paragraph) and
        `"sizes"` (text: how many structures). A single section may stand alone, without `sections`. Keys of
        `MEASURES` get their label and the figures to compare with, also behind "what it is of: "; others stand
        under their own name. Whole numbers are counts.
        Shares are between 0 and 1; None is shown as not measured.

    Returns:
      Markdown with a final newline.

    Raises:
      ValueError: a section lacks its device, seed, command, date or measures, a share is outside 0 to 1,
        or a figure is no number.
    """
    sections = results.get("sections", [results])
    title = results.get("title", "Results") if "sections" in results else "Results"
    parts = [
        f"# {title}\n",
        "The paper's figures are on its own relaxed cells, which are not public; ours are on the rebuilt "
        "ones. Chance is what the right elements with a stacking picked blindly score.\n",
    ]
    return "\n".join(parts + [_section(section) for section in sections])


def _section(section: Mapping[str, Any]) -> str:
    name = section.get("title", "Measured")
    missing = [key for key in (*_CONTEXT, "measures") if section.get(key) is None]
    if missing:
        raise ValueError(f"section {name!r} lacks {', '.join(missing)}")
    lines = [f"## {name}", ""]
    if section.get("note"):
        lines += [str(section["note"]), ""]
    lines += ["| what | ours | paper (its own data) | chance (blind stacking) |", "|---|---|---|---|"]
    for key, value in section["measures"].items():
        of_what, _, name = key.rpartition(": ")
        measure = MEASURES.get(name, Measure(name))
        label = f"{of_what}: {measure.label}" if of_what else measure.label
        cells = (label, _shown(key, measure, value), measure.paper, measure.chance)
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |")
    lines += ["", f"Device: {section['device']}. Seed: {section['seed']}. Date: {section['date']}."]
    if section.get("sizes"):
        lines[-1] += f" Sizes: {section['sizes']}."
    return "\n".join([*lines, "", "```", str(section["command"]), "```", ""])


def _shown(key: str, measure: Measure, value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"{key} is no number: {value!r}")
    if isinstance(value, int | np.integer) and not measure.is_share:
        return str(value)
    number = float(value)
    if np.isnan(number):
        return "undefined"
    if not measure.is_share:
        return f"{number:.{measure.decimals}f}"
    if not 0 <= number <= 1:
        raise ValueError(f"{key} is a share, between 0 and 1, not {number}")
    return f"{100 * number:.{measure.decimals}f} %"
