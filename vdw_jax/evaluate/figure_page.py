"""The page that goes with the figures of the paper: captions, counts, and what made them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vdw_jax.evaluate.figure_arrays import NOTHING, FigureArrays
from vdw_jax.evaluate.figure_facts import (
    NEIGHBOURS,
    Shown,
    count_formulas,
    energies_of,
    energy_label,
    frequent_formulas,
    neighbourhood,
)


def page(arrays: FigureArrays, chosen: Sequence[Shown], command: str) -> str:
    """Captions, counts, and what made the figures, as Markdown."""
    record, energies = arrays.record, energies_of(arrays)
    name = energy_label(arrays)
    free = arrays.asked_kind == NOTHING
    lines = [
        "# Figures of the paper, from this model", "",
        f"Energies of candidates are those of **{energies.source}**"
        + (
            ". Nothing that made or chose the candidates has seen that model."
            if arrays.independent_ev is not None
            else ": it also chose the latents of what was asked for, so (b) of Fig. 3 judges itself; an independent "
            "model is named with `--energy_model`."
        ),
        "", "![Energies and formulas](fig3.png)", "",
        f"**Fig. 3.** (a) {name} of {free.sum():,} samples with nothing asked, against the labels of the training "
        f"({len(arrays.train_label_ev):,}) and test part ({len(arrays.test_label_ev):,}) and the prediction for "
        f"{len(arrays.ids):,} structures of the {record['part']} part by what judges the samples. "
        "(b) Samples asked for an energy. (c) Formulas that came with nothing asked. (d) How often a formula came: "
        "with nothing asked, asked for with the model free to choose the counts of atoms, and with the counts held.",
        "", "| asked (eV) | candidates | energy from | mean (eV) | deviation (eV) | mean absolute error (eV) |",
        "|---|---|---|---|---|---|",
        *_energy_rows(arrays), "",
        "| formula | asked | came | of | instead |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for count in count_formulas(arrays):
        instead = ", ".join(f"{formula} {number}" for formula, number in count.others[:3])
        if len(count.others) > 3:
            instead += f" and {len(count.others) - 3} more"
        kind = {NOTHING: "nothing", "formula free": "counts free", "formula held": "counts held"}[count.kind]
        lines.append(f"| {count.formula} | {kind} | {count.met} | {count.total} | {instead} |")
    energy = arrays.label_ev if np.isfinite(arrays.label_ev).any() else energies.data
    lines += [
        "", "![Maps of the latent](fig4.png)", "",
        f"**Fig. 4.** t-SNE maps of {len(arrays.ids):,} structures of the {record['part']} part: z, the mean that the "
        "encoder gives, in (a) and (c), one and the same map; z_c, that is z fused with the structure's own energy in "
        "(b) and with its own composition in (d). Above coloured by energy, below the "
        f"{len(frequent_formulas(arrays.data_formula))} most frequent formulas, others grey. z_c has been told what it "
        "is coloured by; z has not.", "",
        f"Among the nearest {NEIGHBOURS} others in the latent itself, not on the map:", "",
        "| latent | mean difference of energy (eV) | same formula (%) |", "|---|---|---|",
    ]  # fmt: skip
    names = {"latent": "z", "fused_energy": "z_c, energy told", "fused_formula": "z_c, formula told"}
    for key, title in names.items():
        gap, same = neighbourhood(getattr(arrays, key), energy, arrays.data_formula)
        lines.append(f"| {title} | {gap:.4f} | {100 * same:.1f} |")
    lines += [
        "", "![Generated structures](structures.png)", "",
        f"**Generated structures**, as the sampler leaves them, unrelaxed: one of each wish ({len(chosen)}), valid and "
        "a bilayer where one is, the first of them, or the one nearest to the energy asked. Side view along a above, "
        "top view below; three cells along a and b, one outlined (in the side view without its vacuum).", "",
        "## How", "",
        f"Device {record['device']}; JAX {record['jax']}; seed {record['seed']}; {record['network_calls']} network "
        "calls a structure; " + ", ".join(f"{key} {value:g} s" for key, value in record["seconds"].items())
        + f"; date {record['date']}. Model: {record['checkpoint']}, weights {record['weights_sha256'][:12]}. "
        f"Data: {record['data']['source']}, split by {record['data']['split']}, hash {record['data_hash'][:12]}.",
    ]  # fmt: skip
    if record["data_problem"]:
        lines.append(f"\n**Not the data that the model was trained on:** {record['data_problem']}.")
    return "\n".join([*lines, "", "```", *dict.fromkeys((record["command"], command)), "```", ""])


def _energy_rows(arrays: FigureArrays) -> list[str]:
    sources = {"own property head": arrays.head_ev}
    if arrays.independent_ev is not None:
        sources["independent model"] = arrays.independent_ev
    groups = [("nothing", arrays.asked_kind == NOTHING, np.nan)]
    for energy in arrays.energies_asked:
        groups.append((f"{energy:g}", arrays.asked_energy_ev == energy, energy))
    rows = []
    for asked, members, energy in groups:
        for source, values in sources.items():
            got = values[members]
            got = got[np.isfinite(got)]
            if len(got) == 0:
                rows.append(f"| {asked} | 0 | {source} | - | - | - |")
                continue
            off = "" if np.isnan(energy) else f"{np.abs(got - energy).mean():.4f}"
            rows.append(f"| {asked} | {len(got)} | {source} | {got.mean():.4f} | {got.std():.4f} | {off} |")
    return rows
