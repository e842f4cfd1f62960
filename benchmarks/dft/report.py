"""What the energies say: fits, statistics, the page and the figure."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dft.calculate import SMEARING_EV, read_results
from benchmarks.dft.cells import (
    BETTER,
    CHECKED,
    GAP_OFFSETS_ANGSTROM,
    LABEL,
    SETTINGS,
    SIDES,
    Task,
    canonical,
    lattice_names,
    read_tasks,
)
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.elements import CHALCOGENS, METALS
from vdw_jax.structures.layers import layer_name

PBE_LATTICE_ANGSTROM = {
    "AlS": 3.589, "AlSe": 3.777, "AlTe": 4.120, "GaS": 3.651, "GaSe": 3.825, "GaTe": 4.135,
    "InS": 3.917, "InSe": 4.077, "InTe": 4.372,
}  # fmt: skip
"""Relaxed in full by PBE, without D3; this project's earlier calculations."""


def fit_minimum(x: np.ndarray, y: np.ndarray, degree: int) -> tuple[float, float]:
    """Place and value of the minimum of a polynomial through (or, of lower degree, between) points; NaN if outside."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    middle = x.mean()
    curve = np.polynomial.Polynomial.fit(x - middle, y, degree)
    slope = curve.deriv()
    roots = slope.trim(1e-9 * np.abs(slope.coef).max()).roots()
    real = roots[np.abs(roots.imag) < 1e-9].real
    inside = [r for r in real if curve.deriv(2)(r) > 0 and x.min() <= r + middle <= x.max()]
    if not inside:
        return math.nan, math.nan
    best = min(inside, key=curve)
    return float(best + middle), float(curve(best))


def agreement(label: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """How a label agrees with a reference, both [R] eV; errors are label - reference."""
    from scipy.stats import pearsonr, spearmanr

    error = np.asarray(label, float) - np.asarray(reference, float)
    return {
        "mean error": float(error.mean()),
        "median error": float(np.median(error)),
        "mean absolute error": float(np.abs(error).mean()),
        "mean absolute error, mean removed": float(np.abs(error - error.mean()).mean()),
        "standard deviation of the error": float(error.std(ddof=1)),
        "largest absolute error": float(np.abs(error).max()),
        "slope of the reference over the label": float(np.polyfit(label, reference, 1)[0]),
        "Spearman": float(spearmanr(label, reference).statistic),
        "Pearson": float(pearsonr(label, reference).statistic),
    }


def ordered_share(label: np.ndarray, reference: np.ndarray, apart: float, widest: float = 1.5) -> tuple[float, int]:
    """Of the pairs whose labels are `apart` eV apart, give or take a factor of `widest`, the share that the reference
    puts in the same order (ties count half), and their number."""
    first, second = np.triu_indices(len(label), 1)
    by_label, by_reference = (np.asarray(v, float)[second] - np.asarray(v, float)[first] for v in (label, reference))
    chosen = (np.abs(by_label) >= apart / widest) & (np.abs(by_label) <= apart * widest)
    agrees = (np.sign(by_label * by_reference)[chosen] + 1) / 2
    return (float(agrees.mean()), len(agrees)) if len(agrees) else (math.nan, 0)


class Energies:
    """Energies of finished tasks by name; eV a cell."""

    def __init__(self, tasks: list[Task], results: dict[str, dict[str, Any]]) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.results = {task.name: results[task.key] for task in tasks if task.key in results}

    def __contains__(self, name: str) -> bool:
        return name in self.results

    def dft(self, name: str, d3: bool = True) -> float:
        """PBE, or PBE + D3."""
        return self.results[name]["pbe_ev"] + d3 * self.results[name]["d3_ev"]

    def potential(self, name: str, d3: bool = True) -> float:
        """SevenNet-0, or SevenNet-0 + D3."""
        return self.tasks[name].potential_ev - (not d3) * self.results[name]["d3_ev"]


def stack_rows(energies: Energies, data: CrystalDataset) -> list[dict[str, Any]]:
    """One row for each stack that is finished: label, DFT and, where the held layers are there, both parts, eV;
    `pressed` is the compression of a layer with S and Te in it, 0 where there is none."""
    place = {str(name): row for row, name in enumerate(data.ids)}
    rows = []
    for name, task in energies.tasks.items():
        free = [f"layer/{layer_name(canonical(task.numbers[side]))}" for side in SIDES.values()]
        if not name.startswith("stack/") or not all(part in energies for part in (name, *free)):
            continue
        key = name.split("/")[1]
        row, held = place[key], [f"held/{key}/{side}" for side in SIDES]
        found: dict[str, Any] = {
            "id": key,
            "bottom": str(data.metadata["bottom_layer"][row]), "top": str(data.metadata["top_layer"][row]),
            "stacking": f"{data.metadata['registry'][row]}, {data.metadata['rotation_degrees'][row]}",
            "mismatch": float(data.scalars["mismatch"][row]), "label": float(data.scalars[LABEL][row]),
        }  # fmt: skip
        for kind, energy in (("dft", energies.dft), ("potential", energies.potential)):
            found[kind] = energy(name) - sum(map(energy, free))
            if all(part in energies for part in held):
                found[f"{kind} strain"] = sum(map(energy, held)) - sum(map(energy, free))
                found[f"{kind} binding"] = energy(name) - sum(map(energy, held))
        found["pressed"] = max((
            1 - task.lattice_constant_angstrom / energies.tasks[layer].lattice_constant_angstrom
            for layer in free if {16, 52} <= set(energies.tasks[layer].numbers)
        ), default=0.0)  # fmt: skip
        rows.append(found)
    return rows


def scan_rows(energies: Energies) -> list[dict[str, Any]]:
    """One row for each gap scan: energies against the layers as they are in the stack, eV; minima by quartics."""
    rows = []
    for key in dict.fromkeys(name.split("/")[1] for name in energies.tasks if name.startswith("gap/")):
        names = [f"gap/{key}/{offset:+.1f}" if offset else f"stack/{key}" for offset in GAP_OFFSETS_ANGSTROM]
        held = [f"held/{key}/{side}" for side in SIDES]
        if not all(name in energies for name in names + held):
            continue
        gaps = [energies.tasks[name].heights_angstrom for name in names]
        gap = np.array([height[4] - height[3] for height in gaps])
        found: dict[str, Any] = {"id": key, "gap": gap}
        for kind, energy in (("dft", energies.dft), ("potential", energies.potential)):
            found[kind] = np.array([energy(name) - sum(map(energy, held)) for name in names])
            found[f"{kind} minimum"] = fit_minimum(gap, found[kind], 4)
        rows.append(found)
    return rows


def lattice_rows(energies: Energies, prefix: str = "", suffix: str = "") -> list[dict[str, Any]]:
    """Lattice constants of the MX layers by cubics through five energies; Angstrom."""
    rows = []
    for metal in METALS:
        for chalcogen in CHALCOGENS:
            name = layer_name((chalcogen, metal, metal, chalcogen))
            names = lattice_names(name, prefix, suffix)
            if not all(one in energies for one in names):
                continue
            a = np.array([energies.tasks[one].lattice_constant_angstrom for one in names])
            found: dict[str, Any] = {"layer": layer_name((metal, chalcogen))}
            for kind, energy in (("PBE", energies.dft), ("SevenNet", energies.potential)):
                for d3 in (False, True):
                    values = np.array([energy(one, d3=d3) for one in names])
                    found[kind + " + D3" * d3] = fit_minimum(a, values, 3)[0]
            rows.append(found)
    return rows


def relaxed_rows(energies: Energies) -> list[dict[str, Any]]:
    """Layers whose heights DFT has relaxed: strain energies (eV) and the height of the slanted bonds (Angstrom)."""
    rows = []
    names = [name.removeprefix("relaxed/") for name in energies.results if name.startswith("relaxed/")]
    for free, held in zip(names[::2], names[1::2], strict=False):
        a, b = energies.tasks[free], energies.tasks[held]
        strain = b.lattice_constant_angstrom / a.lattice_constant_angstrom - 1
        rows.append({
            "layer": layer_name(tuple(b.numbers)), "strain": strain,
            "SevenNet + D3": energies.potential(held) - energies.potential(free),
            "PBE + D3, its heights": energies.dft(held) - energies.dft(free),
            "PBE + D3, relaxed": energies.dft(f"relaxed/{held}") - energies.dft(f"relaxed/{free}"),
            "heights free": _outer(a.heights_angstrom),
            "heights free, PBE": _outer(energies.results[f"relaxed/{free}"]["heights_angstrom"]),
            "heights held": _outer(b.heights_angstrom),
            "heights held, PBE": _outer(energies.results[f"relaxed/{held}"]["heights_angstrom"]),
        })  # fmt: skip
    return rows


def _outer(heights: list[float]) -> str:
    """Heights between metal and chalcogen, below and above."""
    return f"{heights[1] - heights[0]:.2f}, {heights[3] - heights[2]:.2f}"


def check_rows(energies: Energies) -> list[dict[str, Any]]:
    """What better settings change in a formation energy, PBE alone; meV."""

    def formation(better: str) -> float:
        stack, bottom, top = (energies.dft(f"check/{part}{better}", d3=False) for part in ("stack", *SIDES))
        return 1e3 * (stack - bottom - top)

    def there(better: str) -> bool:
        return all(f"check/{part}{better}" in energies for part in ("stack", *SIDES))

    return [{"settings": better, "change": formation(f"/{better}") - formation("")}
            for better in BETTER if there("") and there(f"/{better}")]  # fmt: skip


def _table(rows: list[dict[str, Any]], formats: dict[str, str]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(formats) + " |", "|" + "---|" * len(formats)]
    for row in rows:
        cells = [format(row[name], form) if name in row else "-" for name, form in formats.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report_text(energies: Energies, data: CrystalDataset) -> str:
    """The page."""
    stacks, scans, lattice = stack_rows(energies, data), scan_rows(energies), lattice_rows(energies)
    label, dft = (np.array([row[name] for row in stacks]) for name in ("label", "dft"))
    figures = agreement(label, dft)
    codes = sorted({str(result["code"]) for result in energies.results.values()})
    seconds = [result["cpu_seconds"] or 0.0 for result in energies.results.values()]
    parts = [
        "# DFT spot check of the relaxed data set",
        "Made by `python -m benchmarks.dft report`. Geometries are the potential's (SevenNet-0 + D3), energies PBE + "
        "D3 by GPAW: single points, the same D3 in both, so that what differs is SevenNet against PBE. Plane waves to "
        f"{SETTINGS['cutoff_ev']:.0f} eV, {SETTINGS['kpoints']}x{SETTINGS['kpoints']}x1 with Gamma, Fermi smearing "
        f"{SMEARING_EV} eV extrapolated to none, {SETTINGS['vacuum_angstrom']:.0f} Angstrom of vacuum with a dipole "
        "layer in it for every slab (most are polar), GPAW's default setups (Ga with 3 valence electrons, In with 13). "
        f"{len(seconds)} calculations, {sum(seconds) / 60:.0f} min of one core. {'; '.join(codes)}.",
        "## What the settings leave open",
        f"{CHECKED[0]} / {CHECKED[1]}, strained: change of E(stack) - E(layer 1) - E(layer 2) with better settings.",
        _table(check_rows(energies), {"settings": "", "change": "+.1f"}).replace("change", "change (meV)"),
        f"## The label: {len(stacks)} stacks (eV a cell)",
        "![DFT against label, and gap scans](report.png)",
        "\n".join(f"* {name}: {value:.3f}" for name, value in figures.items()),
        "Pairs of stacks whose labels are so far apart (within a factor of 1.5), and the share that DFT puts in the "
        "same order; beside it the share that random errors of the standard deviation above would leave:",
        _table(
            [{"apart (eV)": apart, "pairs": count, "same order": share,
              "random errors": _normal(apart / figures["standard deviation of the error"] / math.sqrt(2))}
             for apart in (0.02, 0.05, 0.1) for share, count in [ordered_share(label, dft, apart)]],
            {"apart (eV)": ".2f", "pairs": "d", "same order": ".0%", "random errors": ".0%"},
        ),
        "Where the errors are (eV), split after they were seen; S-Te is a layer with S on one side, Te on the other:",
        _table(_subsets(stacks), {"stacks": "", "number": "d", "mean error": "+.3f", "mean absolute error": ".3f",
                                  "standard deviation of the error": ".3f", "Spearman": ".3f"}),
        _parts_text(stacks),
        _table(
            [row | {"error": row["label"] - row["dft"],
                    "strain error": row.get("potential strain", math.nan) - row.get("dft strain", math.nan),
                    "binding error": row.get("potential binding", math.nan) - row.get("dft binding", math.nan)}
             for row in sorted(stacks, key=lambda row: row["label"])],
            {"id": "", "bottom": "", "top": "", "stacking": "", "mismatch": ".3f", "label": ".3f", "dft": ".3f",
             "error": "+.3f", "strain error": "+.3f", "binding error": "+.3f"},
        ),
        "## Heights relaxed by DFT",
        "Strain energy of layers as they are in a stack (eV), and heights between metal and chalcogen (Angstrom); two "
        "kinds of layer that err most and one that does not, pressed together as much.",
        _table(relaxed_rows(energies), {"layer": "", "strain": "+.3f", "SevenNet + D3": ".3f",
                                        "PBE + D3, its heights": ".3f", "PBE + D3, relaxed": ".3f", "heights free": "",
                                        "heights free, PBE": "", "heights held": "", "heights held, PBE": ""}),
        f"## Gap scans: {len(scans)} stacks, rigid",
        _scans_text(scans),
        "## Lattice constants of the MX layers (Angstrom)",
        _lattice_text(lattice, lattice_rows(energies, "check/", "/500 eV")),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _normal(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def _subsets(stacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    chosen = {
        "mismatch up to 0.05": [row for row in stacks if row["mismatch"] <= 0.05],
        "mismatch above 0.05": [row for row in stacks if row["mismatch"] > 0.05],
        "S-Te layer pressed together by over 3 %": [row for row in stacks if row["pressed"] > 0.03],
        "all others": [row for row in stacks if row["pressed"] <= 0.03],
    }
    return [{"stacks": name, "number": len(rows)}
            | agreement(*(np.array([row[kind] for row in rows]) for kind in ("label", "dft")))
            for name, rows in chosen.items() if len(rows) > 2]  # fmt: skip


def _parts_text(stacks: list[dict[str, Any]]) -> str:
    whole = [row for row in stacks if "dft strain" in row]
    lines = [f"Strain and binding of {len(whole)} stacks, against the layers as they are in the stack (eV):", ""]
    rows = []
    for part in ("strain", "binding"):
        found = agreement(*(np.array([row[f"{kind} {part}"] for row in whole]) for kind in ("potential", "dft")))
        rows.append({"part": part} | found)
    names = ["mean error", "mean absolute error", "standard deviation of the error", "Spearman", "Pearson"]
    lines.append(_table(rows, {"part": ""} | dict.fromkeys(names, ".3f")))
    recomputed = max(abs(row["potential"] - row["label"]) for row in stacks)
    lines += ["", f"The potential's energies of these geometries give the labels to {1e3 * recomputed:.2f} meV."]
    return "\n".join(lines)


def _scans_text(scans: list[dict[str, Any]]) -> str:
    from scipy.stats import spearmanr

    rows = [
        {"id": row["id"], "gap": row["potential minimum"][0], "gap, DFT": row["dft minimum"][0],
         "depth": row["potential minimum"][1], "depth, DFT": row["dft minimum"][1],
         "Spearman": float(spearmanr(row["potential"], row["dft"]).statistic)}
        for row in scans
    ]  # fmt: skip
    pooled = [np.concatenate([row[kind] for row in scans]) for kind in ("potential", "dft")]
    gap = np.array([row["gap"] - row["gap, DFT"] for row in rows])
    depth = np.array([row["depth"] - row["depth, DFT"] for row in rows])
    return "\n\n".join([
        f"Offsets {', '.join(f'{offset:+.1f}' for offset in GAP_OFFSETS_ANGSTROM)} Angstrom from the relaxed gap; "
        "energies against the layers apart, eV a cell; gap (Angstrom) and depth (eV) of the minimum of a quartic.",
        _table(rows, {"id": ""} | dict.fromkeys(list(rows[0])[1:5], ".3f") | {"Spearman": ".2f"}),
        f"All {len(pooled[0])} points: Spearman {spearmanr(*pooled).statistic:.3f}, mean error "
        f"{np.mean(pooled[0] - pooled[1]):+.3f} eV. Gap: mean error {gap.mean():+.3f}, mean absolute "
        f"{np.abs(gap).mean():.3f} Angstrom. Depth: mean error {depth.mean():+.3f}, mean absolute "
        f"{np.abs(depth).mean():.3f} eV.",
    ])  # fmt: skip


def _lattice_text(lattice: list[dict[str, Any]], checked: list[dict[str, Any]]) -> str:
    kinds = ["PBE", "SevenNet", "PBE + D3", "SevenNet + D3"]
    rows = [
        row | {"PBE, relaxed in full": PBE_LATTICE_ANGSTROM[row["layer"]],
               "error": row["SevenNet"] - row["PBE"], "error with D3": row["SevenNet + D3"] - row["PBE + D3"]}
        for row in lattice
    ]  # fmt: skip
    lines = [
        "From five energies each, heights relaxed by SevenNet-0 + D3 at every lattice constant, cubic fit; errors are "
        "SevenNet - PBE, each with or without D3 on both sides. Relaxed in full by PBE, earlier, for comparison.",
        _table(rows, {"layer": "", "PBE, relaxed in full": ".3f"} | dict.fromkeys(kinds, ".3f")
               | {"error": "+.3f", "error with D3": "+.3f"}),
    ]  # fmt: skip
    shortening = np.mean([row["PBE"] - row["PBE + D3"] for row in rows])
    for name in ("error", "error with D3"):
        values = np.array([row[name] for row in rows])
        shortened = f"; D3 alone shortens PBE's by {shortening:.3f} on average" if name == "error with D3" else ""
        lines.append(f"* {name}: mean {values.mean():+.3f}, mean absolute {np.abs(values).mean():.3f}, largest "
                     f"{np.abs(values).max():.3f}{shortened}.")  # fmt: skip
    lines += [f"* {row['layer']} at 500 eV: PBE {row['PBE']:.3f}, PBE + D3 {row['PBE + D3']:.3f}." for row in checked]
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])


def draw(energies: Energies, data: CrystalDataset, path: Path) -> None:
    """The figure: DFT against label, and the gap scans."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    stacks, scans = stack_rows(energies, data), scan_rows(energies)
    figure: Any = pyplot.figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.4])
    axes = left.subplots()
    points = axes.scatter(*([row[name] for row in stacks] for name in ("label", "dft")),
                          c=[row["mismatch"] for row in stacks], cmap="viridis", zorder=2)  # fmt: skip
    ends = [min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])]
    axes.plot(ends, ends, color="0.6", linewidth=1, zorder=1)
    axes.set(xlabel="label, SevenNet-0 + D3 (eV a cell)", ylabel="PBE + D3 (eV a cell)", aspect="equal")
    pressed = [row for row in stacks if row["pressed"] > 0.03]
    axes.plot(*([row[name] for row in pressed] for name in ("label", "dft")), "o", color="tab:red", fillstyle="none",
              markersize=11, label="S-Te layer pressed together")  # fmt: skip
    axes.legend(fontsize=8)
    left.colorbar(points, ax=axes, label="mismatch", shrink=0.9)
    for axes, row in zip(right.subplots(2, 3).flat, scans, strict=False):
        for kind, color, name in (("potential", "tab:blue", "SevenNet-0 + D3"), ("dft", "tab:orange", "PBE + D3")):
            order = np.argsort(row["gap"])
            gap, energy = row["gap"][order], row[kind][order]
            fine = np.linspace(gap[0], gap[-1], 100)
            axes.plot(fine, np.polynomial.Polynomial.fit(gap, energy, 4)(fine), color=color, linewidth=1)
            axes.plot(gap, energy, "o", color=color, markersize=4, label=name)
        axes.set_title(row["id"], fontsize=9)
        axes.tick_params(labelsize=8)
        if row is scans[0]:
            axes.legend(fontsize=7)
    right.supxlabel("gap (Angstrom)", fontsize=10)
    right.supylabel("energy against the layers apart (eV a cell)", fontsize=10)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def write_report(folder: Path, data_path: str) -> None:
    """The page and the figure."""
    data, tasks = CrystalDataset.load(data_path), read_tasks(folder)
    energies = Energies(tasks, read_results(folder / "results.jsonl"))
    text = report_text(energies, data)
    (folder / "report.md").write_text(text, encoding="utf-8")
    draw(energies, data, folder / "report.png")
    print(text)
    missing = [task.name for task in tasks if task.name not in energies]
    if missing:
        print(f"{len(missing)} of {len(tasks)} calculations are not there yet", file=sys.stderr)
