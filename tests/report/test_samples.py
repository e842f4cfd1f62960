"""What sample.py writes: every file, ranks, and the training data beside the candidates where they are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import write

from tests.tiny import tiny_config
from vdw_jax.design.trained import Trained
from vdw_jax.model.cdvae import CDVAE
from vdw_jax.report.describe import sample_rows
from vdw_jax.report.ranking import add_ranks
from vdw_jax.report.samples import compare, save_samples, to_crystals, training_labels, training_part
from vdw_jax.structures.source import load_source
from vdw_jax.training.losses import LossConfig

LABEL = "formation_energy_ev"


def trained_on(data_hash: str, **changes) -> Trained:
    data = {"source": "iii_vi", "scalars": [LABEL], "max_atoms": 10, "split": "structure", "split_seed": 0, **changes}
    facts = {"config": {"data": data}, "data_hash": data_hash}
    return Trained(CDVAE(tiny_config()), None, {}, LossConfig(), facts)


@pytest.fixture(scope="module")
def data():
    return load_source("iii_vi", properties=(LABEL,), max_atoms=10)


def test_labels_of_the_training_part(data):
    labels = training_labels(trained_on(data.content_hash()))
    assert labels.keys() == {LABEL}
    part = np.sort(data.scalars[LABEL][(data.metadata["part"] == "train") & (data.metadata["status"] == "ok")])
    np.testing.assert_array_equal(np.sort(labels[LABEL]), part)


@pytest.mark.parametrize("changes", [{}, {"source": "csv"}, {"scalars": []}, {"scalars": ["surrogate_energy_ev"]}])
def test_no_labels_where_the_data_are_others(changes):
    assert training_labels(trained_on("another", **changes)) == {}


def test_structures_of_ones_own_are_known_while_their_file_is_there(tmp_path, make_slab):
    path = tmp_path / "mine.extxyz"
    slabs = [make_slab(f"s{place:04d}", 3.0 + 0.05 * place).to_ase() for place in range(12)]
    for place, slab in enumerate(slabs):
        slab.info = {LABEL: 0.1 * place}
    write(path, slabs)
    own = load_source("file", path=path, properties=(LABEL,), max_atoms=10)
    trained = trained_on(own.content_hash(), path=str(path))
    part = training_part(trained)
    assert part is not None and set(part.ids) < set(own.ids)
    assert len(training_labels(trained)[LABEL]) == len(part)
    training_part.cache_clear()
    write(path, slabs[:-1])
    assert training_part(trained) is None
    training_part.cache_clear()
    path.unlink()
    assert training_part(trained) is None


def test_files(tmp_path, make_slab):
    crystals = [make_slab("s0000"), make_slab("s0001", 3.3), make_slab("s0002", 9.0)]
    asked = {"formula": "GaInSSe", "energy_ev": -0.1}
    rows = add_ranks(sample_rows(crystals, [asked] * 3, [{"energy_ev": energy} for energy in (0.4, -0.1, -0.1)]))
    out = tmp_path / "out"
    command = {"command": "python sample.py"}
    save_samples(out, crystals, rows, command, trained_on("another"))
    assert [(row["id"], row["rank"]) for row in rows] == [("s0000", 2), ("s0001", 1), ("s0002", 3)]  # the last is apart
    names = {"cif", "report.html", "request.json", "samples.csv", "samples.extxyz", "samples.parquet"}
    assert {path.name for path in out.iterdir()} == names
    record = json.loads((out / "request.json").read_text())
    assert record == command
    page = (out / "report.html").read_text()
    assert all(f'"s000{place}"' in page for place in range(3))


def test_what_a_candidate_repeats(data):
    known = data.select(np.flatnonzero(data.num_atoms == data.num_atoms.min())[:40])
    crystals = to_crystals(known.select([3, 7]).batch(), known.periodicity)
    crystals += [replace(crystals[0], id="again")]
    shaken = np.random.default_rng(0).normal(0, 0.01, crystals[1].positions.shape)
    apart = crystals[1].positions + [0, 0, 1.0] * (crystals[1].positions[:, 2:] > 0)
    crystals += [replace(crystals[1], id="near", positions=crystals[1].positions + shaken)]
    crystals += [replace(crystals[1], id="apart", positions=apart)]
    told = compare(crystals, known)
    assert [row["known_as"] for row in told] == [str(known.ids[row]) for row in (3, 7, 3, 7)] + ["-"]
    assert [row["novel"] for row in told] == [False, False, False, False, True]
    assert [row["repeats"] for row in told] == ["-", "-", "s0000", "s0001", "-"]
    assert [row["nearest_training"] for row in told] == [str(known.ids[row]) for row in (3, 7, 3, 7, 7)]
    distances = [row["nearest_rms_angstrom"] for row in told]
    assert max(distances[:3]) < 1e-3 < distances[3] < 0.05 < 0.4 < distances[4] <= 0.5
    alone = [tuple(row.values()) for row in compare(crystals[:3], None)]
    nothing = ("-", None, None)
    assert alone == [(None, "-", "-", *nothing), (None, "-", "-", *nothing), (None, "-", "s0000", *nothing)]
    assert compare([], known) == []
