"""What the data card says of the shipped data sets: figures, tables, and whether a split leaks.

    python -m benchmarks.dataset card                 # docs/dataset.png and the tables, seconds
    python -m benchmarks.dataset leak --by=pair       # test structures that StructureMatcher finds in the training part
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vdw_jax.metrics.matching import TIGHT_STOL
from vdw_jax.metrics.novelty import first_matches
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.elements import LATTICE_CONSTANT_ANGSTROM, SYMBOLS
from vdw_jax.structures.label import LABEL
from vdw_jax.structures.layers import layer_name
from vdw_jax.structures.source import load_relaxed
from vdw_jax.structures.splits import split_dataset

FAMILIES = ("j2dh8", "iii_vi")

STACKINGS = tuple((registry, rotation) for rotation in (0, 60) for registry in (0, 1, 2))

def leaks(data: CrystalDataset, by: str, stol: float, limit: int | None, workers: int) -> list[tuple[str, str, float]]:
    """Test structures that match a training structure: both ids and the RMSE of the first match.

    Args:
        limit: test structures looked at, drawn with seed 0; None for all.
    """
    split = split_dataset(data, 0, by=by)
    test = split["test"]
    if limit is not None:
        test = np.sort(np.random.RandomState(0).permutation(test)[:limit])
    found = first_matches(data, test, split["train"], stol=stol, workers=workers)
    return [
        (str(data.ids[row]), str(data.ids[match[0]]), match[1])
        for row, match in zip(test, found, strict=True) if match is not None
    ]  # fmt: skip


def run_leak(given: argparse.Namespace) -> None:
    """Prints the share of the test part that a split leaks, and what the matches are."""
    data, _ = load_relaxed(given.family)
    found = leaks(data, given.by, given.stol, given.limit, given.workers)
    place = {str(name): row for row, name in enumerate(data.ids)}
    same_pair = sum(data.metadata["pair"][place[a]] == data.metadata["pair"][place[b]] for a, b, _ in found)
    print(f"{len(found)} match a training structure at stol {given.stol}, {same_pair} of them one of their own pair")
    for a, b, distance in found[:10]:
        print(f"  {a} {b} {distance:.3f}")


def summary_table(sets: dict[str, CrystalDataset]) -> str:
    """Markdown: what each column spans."""

    def spread(values: np.ndarray, digits: int) -> str:
        values = values[np.isfinite(values)]
        return ", ".join(f"{v:.{digits}f}" for v in np.percentile(values, [0, 5, 50, 95, 100]))

    rows = [("rows; relaxed and in order", lambda d: f"{len(d):,}; {(d.metadata['status'] == 'ok').sum():,}")]
    rows += [("steps: mean, most", lambda d: _mean_and_most(d.metadata["relaxation_steps"]))]
    rows += [(f"`{name}`", lambda d, n=name, k=digits: spread(d.scalars[n], k)) for name, digits in (
        (LABEL, 3), ("formation_energy_per_atom_ev", 3), ("binding_energy_ev_per_a2", 4),
        ("lattice_constant_angstrom", 3), ("gap_angstrom", 2), ("mismatch", 3))]  # fmt: skip
    rows += [("label below 0", lambda d: f"{100 * np.nanmean(_known(d) < 0):.1f} %")]
    rows += [("correlation of label and squared mismatch", lambda d: f"{_correlation(d):.3f}")]
    lines = ["| minimum, 5 %, median, 95 %, maximum | " + " | ".join(sets) + " |", "|---|" + "---|" * len(sets)]
    lines += [f"| {name} | " + " | ".join(show(data) for data in sets.values()) + " |" for name, show in rows]
    return "\n".join(lines)


def _mean_and_most(steps: np.ndarray) -> str:
    return f"{steps.mean():.1f}, {steps.max()}"


def _known(data: CrystalDataset) -> np.ndarray:
    label = data.scalars[LABEL]
    return label[np.isfinite(label)]


def _correlation(data: CrystalDataset) -> float:
    known = np.isfinite(data.scalars[LABEL])
    return float(np.corrcoef(data.scalars["mismatch"][known] ** 2, data.scalars[LABEL][known])[0, 1])


def stacking_table(data: CrystalDataset) -> str:
    """Markdown: label and gap by registry and rotation."""
    head = "| rotation | registry | label, median (eV) | gap: min, median, max (Angstrom) | layer groups |"
    lines = [head, "|---|---|---|---|---|"]
    for registry, rotation in STACKINGS:
        rows = (data.metadata["registry"] == registry) & (data.metadata["rotation_degrees"] == rotation)
        gap = data.scalars["gap_angstrom"][rows]
        groups = ", ".join(str(g) for g in np.unique(data.metadata["layer_group"][rows]) if g)
        shown = ", ".join(f"{v:.2f}" for v in (np.nanmin(gap), np.nanmedian(gap), np.nanmax(gap)))
        median = np.nanmedian(data.scalars[LABEL][rows])
        lines.append(f"| {rotation} | {registry} | {median:.3f} | {shown} | {groups} |")
    return "\n".join(lines)


def lattice_table(layers: CrystalDataset, stacks: CrystalDataset) -> str:
    """Markdown: lattice constants of the nine MX layers, alone and in their homobilayers, against GPAW/PBE."""
    lines = ["| | GPAW, PBE | alone | homobilayers, six stackings |", "|---|---|---|---|"]
    names = layers.metadata["layer"].tolist()
    for (metal, chalcogen), reference in LATTICE_CONSTANT_ANGSTROM.items():
        m, x = (SYMBOLS.index(s) + 1 for s in (metal, chalcogen))
        name = layer_name(np.array([x, m, m, x]))
        rows = (stacks.metadata["bottom_layer"] == name) & (stacks.metadata["top_layer"] == name)
        pair = stacks.scalars["lattice_constant_angstrom"][rows]
        alone = layers.scalars["lattice_constant_angstrom"][names.index(name)]
        lines.append(
            f"| {metal}{chalcogen} | {reference:.3f} | {alone:.3f} ({alone - reference:+.3f}) "
            f"| {pair.min():.3f} to {pair.max():.3f} |"
        )
    return "\n".join(lines)


def draw(sets: dict[str, CrystalDataset], path: Path) -> None:
    """Distributions: label, gap by stacking, lattice constant, label against mismatch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    for name, data in sets.items():
        for axis, column, bins in ((axes[0, 0], LABEL, np.linspace(-0.35, 0.6, 77)),
                                   (axes[1, 0], "lattice_constant_angstrom", np.linspace(3.45, 4.45, 61))):  # fmt: skip
            values = data.scalars[column]
            axis.hist(values[np.isfinite(values)], bins, density=True, histtype="step", linewidth=1.4, label=name)
    axes[0, 0].set(xlabel="formation energy (eV a cell)", ylabel="density")
    axes[1, 0].set(xlabel="lattice constant (Angstrom)", ylabel="density")
    main = sets["j2dh8"]
    for registry, rotation in STACKINGS:
        rows = (main.metadata["registry"] == registry) & (main.metadata["rotation_degrees"] == rotation)
        gap = main.scalars["gap_angstrom"][rows]
        axes[0, 1].hist(gap[np.isfinite(gap)], np.linspace(2.6, 4.5, 77), histtype="step", linewidth=1.2,
                        label=f"{rotation}°, registry {registry}")  # fmt: skip
    axes[0, 1].set(xlabel="gap (Angstrom)", ylabel="cells of j2dh8", xlim=(1.9, 4.6))
    points = axes[1, 1].scatter(main.scalars["mismatch"], main.scalars[LABEL], s=2, c=main.scalars["gap_angstrom"])
    axes[1, 1].set(xlabel="lattice mismatch of the free layers", ylabel="formation energy (eV a cell)")
    figure.colorbar(points, ax=axes[1, 1], label="gap (Angstrom)")
    for axis in (axes[0, 0], axes[0, 1]):
        axis.legend(fontsize=8, frameon=False, loc="best" if axis is axes[0, 0] else "upper left")
    figure.savefig(path, dpi=110)


def run_card(given: argparse.Namespace) -> None:
    """Writes the figure and prints the tables."""
    sets = {family: load_relaxed(family)[0] for family in FAMILIES}
    draw(sets, given.figure)
    layers, _ = load_relaxed("layers")
    print(summary_table(sets), stacking_table(sets["j2dh8"]), lattice_table(layers, sets["j2dh8"]), sep="\n\n")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    card = commands.add_parser("card", help="figure and tables")
    card.add_argument("--figure", type=Path, default=Path("docs/dataset.png"))
    card.set_defaults(run=run_card)
    leak = commands.add_parser("leak", help="test structures that the training part already holds")
    leak.add_argument("--family", default="j2dh8", choices=FAMILIES)
    leak.add_argument("--by", default="pair", choices=("pair", "structure"))
    leak.add_argument("--stol", type=float, default=TIGHT_STOL)
    leak.add_argument("--limit", type=int, help="test structures to look at; all by default")
    leak.add_argument("--workers", type=int, default=1)
    leak.set_defaults(run=run_leak)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
