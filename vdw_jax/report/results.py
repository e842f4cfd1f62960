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
    "struct_valid": Measure("validity, structure", "100 %", is_share=True, decimals=2),
    "comp_valid": Measure("validity, composition", "100 %", is_share=True, decimals=2),
    "comp_valid_reference": Measure("validity, composition, of the test part itself", is_share=True, decimals=2),
    "valid": Measure("validity, both", is_share=True, decimals=2),
    "cov_recall": Measure("COV-R", "100 %", is_share=True, decimals=2),
    "cov_precision": Measure("COV-P", "87.41 %", is_share=True, decimals=2),
    "wdist_density": Measure("Wasserstein distance, density (g/cm^3)", "0.1067"),
    "wdist_density_all": Measure("distance of density, all valid samples"),
    "wdist_density_reference": Measure("distance of density, 1,000 drawn from the test part itself"),
    "wdist_num_elems": Measure("Wasserstein distance, number of elements", "0.0964"),
    "wdist_num_elems_all": Measure("distance of number of elements, all valid samples"),
    "wdist_num_elems_reference": Measure("distance of number of elements, 1,000 drawn from the test part itself"),
    "bilayer_rate": Measure("bilayers (two layers)", is_share=True, decimals=2),
    "gap_angstrom": Measure("gap of the bilayers, mean (A)", decimals=3),
    "novelty": Measure("valid and not in the training part (stol 0.1)", is_share=True, decimals=2),
    "uniqueness": Measure("valid and unlike any other sample (stol 0.1)", is_share=True, decimals=2),
    "reconstruction_valid": Measure("validity of the reconstructions, both", is_share=True, decimals=2),
    "formula_exact": Measure("asked formula met, counts held", is_share=True, decimals=2),
    "formula_exact_free": Measure("asked formula met, counts free", is_share=True, decimals=2),
    "energy_mae": Measure("asked against predicted energy, mean absolute error (eV a cell)"),
    "energy_mae_held": Measure("the same, asked together with a formula"),
    "conditional_struct_valid": Measure("validity, structure", is_share=True, decimals=2),
    "conditional_comp_valid": Measure("validity, composition", is_share=True, decimals=2),
    "conditional_bilayer_rate": Measure("bilayers (two layers)", is_share=True, decimals=2),
}
"""Known measures by key. Paper: its own data (J2DH-8 as relaxed there). Chance: right elements, the
stacking picked blindly among the six."""

_CONTEXT = ("device", "seed", "command", "date")


def results_markdown(results: Mapping[str, Any]) -> str:
    """RESULTS.md from measured figures.

    Args:
      results: `{"title": ..., "sections": [section, ...]}`, a section being `{"title", "device", "seed",
        "command", "date", "measures": {key: number}}` with, if wanted, `"note"` (a paragraph), `"sizes"` (text: how
        many structures) and `"intervals"` (`{key: (low, high)}`). A single section may stand alone, without
        `sections`. Keys of `MEASURES` get their label and the figures to compare with, also behind "what it is of: ";
        others stand under their own name. Whole numbers are counts.
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
        "ones. Chance is what the right elements with a stacking picked blindly score. In brackets: 95 % "
        "intervals by the bootstrap.\n",
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
        ends = section.get("intervals", {}).get(key, (None, None))
        shown = _shown(key, measure, value)
        if None not in ends:
            shown += f" ({' to '.join(_shown(key, measure, end) for end in ends)})"
        cells = (label, shown, measure.paper, measure.chance)
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
