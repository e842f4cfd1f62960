"""The builder: labels that follow from energies, and files that a kill does not change."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.structures.toy import CONTACT_EV, LATTICE_STIFFNESS
from vdw_jax.structures import build as module
from vdw_jax.structures.build import Settings, build
from vdw_jax.structures.dataset import CrystalDataset
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.j2dh8 import build_j2dh8
from vdw_jax.structures.label import LABEL, OUT_OF_ORDER, layer_keys
from vdw_jax.structures.quintuple import build_iii_vi

ROOT = Path(__file__).parents[2]
TOY = "tests.structures.toy:Springs"


def settings(**changes) -> Settings:
    """A few rows with the toy potential."""
    return Settings(**({"family": "j2dh8", "potential": TOY, "rows": tuple(range(2000, 2012)), "block": 5} | changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Twelve rows, built without interruption."""
    out = tmp_path_factory.mktemp("whole") / "rows.npz"
    build(out, settings(), quiet=True)
    return out


def test_labels_follow_from_the_energies(whole):
    data = CrystalDataset.load(whole)
    assert (data.metadata["status"] == "ok").all()
    np.testing.assert_allclose(data.scalars[LABEL], CONTACT_EV, atol=1e-4)
    np.testing.assert_allclose(data.scalars["gap_angstrom"], 3.2, atol=1e-2)
    constant = 3.3 + 0.02 * data.atomic_numbers.mean(1)
    np.testing.assert_allclose(data.scalars["lattice_constant_angstrom"], constant, atol=1e-2)
    below, above = (np.array([3.3 + 0.02 * np.mean(species) for species, _ in side]) for side in layer_keys(data))
    np.testing.assert_allclose(data.scalars["mismatch"], np.abs(below - above) / constant, atol=1e-3)
    strain = sum(LATTICE_STIFFNESS / 2 * np.log(constant / alone) ** 2 for alone in (below, above))
    expected = (CONTACT_EV - strain) / (np.sqrt(3) / 2 * constant**2)
    np.testing.assert_allclose(data.scalars["binding_energy_ev_per_a2"], expected, atol=1e-4)


def test_rows_stay_who_they_were(whole):
    data, start = CrystalDataset.load(whole), build_j2dh8().select(np.arange(2000, 2012))
    for name in ("pair", "registry", "rotation_degrees", "duplicate_of", "bottom_layer"):
        np.testing.assert_array_equal(data.metadata[name], start.metadata[name])
    np.testing.assert_array_equal(data.ids, start.ids)
    np.testing.assert_array_equal(data.atomic_numbers, start.atomic_numbers)
    inverse = np.linalg.inv(data.cell[:, :2, :2].astype(float)), np.linalg.inv(start.cell[:, :2, :2].astype(float))
    flat = [x.positions[..., :2] @ i for x, i in zip((data, start), inverse, strict=True)]
    np.testing.assert_allclose(flat[0], flat[1], atol=1e-5)
    np.testing.assert_allclose(data.positions[..., 2].mean(1), 0.0, atol=1e-5)


def test_the_origin_stands_beside(whole):
    origin = json.loads(whole.with_suffix(".json").read_text())
    assert origin["provenance"]["calculator"] == TOY
    assert origin["content_hash"] == CrystalDataset.load(whole).content_hash()
    assert origin["status"] == {"ok": 12}
    assert not Path(f"{whole}.parts").exists()


def test_killed_three_times_it_is_the_same_to_the_byte(tmp_path):
    """Two hundred cells, ten blocks; each run is killed a few blocks further on."""
    run = [sys.executable, "-m", "vdw_jax.structures.build", "--family=j2dh8", "--rows=2000:2200", "--block=20"]
    run += ["--potential=tests.structures.toy:Springs"]
    outs = [tmp_path / "killed.npz", tmp_path / "not.npz"]
    parts = Path(f"{outs[0]}.parts")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for count in (1, 4, 7):
        process = subprocess.Popen([*run, f"--out={outs[0]}"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        while len(list(parts.glob("[!.]*.npz"))) < count:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert not outs[0].exists()
    for out in outs:
        subprocess.run([*run, f"--out={out}"], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert len(CrystalDataset.load(outs[0])) == 200


def test_asked_to_stop_it_says_how_to_go_on(tmp_path):
    out = tmp_path / "rows.npz"
    run = [sys.executable, "-m", "vdw_jax.structures.build", "--family=j2dh8", "--rows=0:40", "--block=2", "--quiet"]
    run += ["--potential=tests.structures.toy:slow", f"--out={out}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(run, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    while not list(Path(f"{out}.parts").glob("[!.]*.npz")):
        time.sleep(0.005)
    process.terminate()
    assert "the same command goes on" in process.communicate()[1]
    assert process.returncode == 130 and not out.exists()


def test_several_processes_give_the_same(whole, tmp_path):
    build(tmp_path / "rows.npz", settings(), workers=2, quiet=True)
    assert (tmp_path / "rows.npz").read_bytes() == whole.read_bytes()


def test_a_row_that_fails_stays_and_says_why(tmp_path, monkeypatch):
    """Rows around the first change between cells with and without Ga; the layers are not asked for."""
    has_gallium = (build_j2dh8().atomic_numbers == 31).any(1)
    rows = np.flatnonzero(has_gallium[:-1] != has_gallium[1:])[0] + np.arange(-3, 5)
    monkeypatch.setattr(module, "relax_layers", _layers_at_zero)
    asked = settings(rows=tuple(rows.tolist()), potential="tests.structures.toy:without_gallium")
    found = build(tmp_path / "rows.npz", asked, quiet=True)
    failed = has_gallium[rows]
    assert failed.any() and not failed.all()
    status = found.metadata["status"]
    assert (status[failed] == "failed: no parameters for element 31").all()
    assert (status[~failed] == "ok").all()
    np.testing.assert_array_equal(np.isnan(found.scalars[LABEL]), failed)
    assert np.isfinite(found.positions).all()


def _layers_at_zero(potential, keys, done):
    return {
        "numbers": np.array([species for species, _ in keys]), "polarity": np.array([p for _, p in keys]),
        "energy": np.zeros(len(keys)), "cell": np.tile(np.eye(3), (len(keys), 1, 1)),
    }  # fmt: skip


def test_layers_are_a_family_of_their_own(tmp_path):
    found = build(tmp_path / "layers.npz", settings(family="layers", rows=None), quiet=True)
    assert len(found) == 45 + 243
    assert (found.metadata["polarity"][found.num_atoms == 5] != 0).all()
    constant = 3.3 + 0.02 * found.atomic_numbers.sum(1) / found.num_atoms
    np.testing.assert_allclose(found.scalars["lattice_constant_angstrom"], constant, atol=1e-2)


def test_energies_count_from_the_elements_where_they_are_known(tmp_path, monkeypatch):
    references = {symbol: -1.0 for symbol in ("Al", "Ga", "In", "S", "Se", "Te")}
    monkeypatch.setattr(module, "load_references", lambda potential: references)
    found = build(tmp_path / "rows.npz", settings(), quiet=True)
    expected = found.metadata["energy_ev"] / 8 + 1.0
    np.testing.assert_allclose(found.scalars["formation_energy_per_atom_ev"], expected, atol=1e-5)
    monkeypatch.setattr(module, "load_references", lambda potential: None)
    without = build(tmp_path / "without.npz", settings(), quiet=True)
    assert "formation_energy_per_atom_ev" not in without.scalars


def test_rows_relaxed_again_are_compared_with_what_is_shipped(tmp_path, monkeypatch):
    out = tmp_path / "all.npz"
    shipped = build(out, settings(), quiet=True)
    origin = json.loads(out.with_suffix(".json").read_text())
    monkeypatch.setattr(module, "load_relaxed", lambda family: (shipped, origin))
    monkeypatch.setitem(module.STACKS, "j2dh8", lambda: build_j2dh8().select(np.arange(2000, 2012)))
    found = module.check("j2dh8", 5, seed=1, quiet=True)
    assert len(set(found["ids"])) == 5 and set(found["ids"]) <= set(shipped.ids)
    assert found["angstrom"].max() < 1e-4 and found["ev"].max() < 1e-4
    assert module._report_check(found) == 0
    shipped.scalars[LABEL][:] += 0.01
    assert module._report_check(module.check("j2dh8", 5, seed=1, quiet=True)) == 1


def test_what_does_not_converge_has_no_label(tmp_path):
    few = settings(rows=(2000, 2001, 2002), max_steps=12, largest_force=0.02)
    found = build(tmp_path / "rows.npz", few, quiet=True)
    assert set(found.metadata["status"]) <= {"ok", "not converged", OUT_OF_ORDER}
    is_ok = found.metadata["status"] == "ok"
    np.testing.assert_array_equal(np.isfinite(found.scalars[LABEL]), is_ok)


def test_quintuples_too(tmp_path):
    start = build_iii_vi()
    found = build(tmp_path / "rows.npz", settings(family="iii_vi", rows=tuple(range(6998, 7003))), quiet=True)
    np.testing.assert_array_equal(found.atomic_numbers, start.atomic_numbers[6998:7003])
    assert (found.metadata["status"] == "ok").all()
    np.testing.assert_allclose(found.scalars[LABEL], CONTACT_EV, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "nothing"}, "unknown family"),
        ({"rows": (5, 5)}, "different numbers"),
        ({"rows": (0, 19926)}, "within 0:19926"),
        ({"family": "layers"}, "no rows"),
        ({"potential": "no"}, "unknown potential"),
    ],
)
def test_impossible_requests(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        build(tmp_path / "rows.npz", settings(**changes), quiet=True)


def test_blocks_of_other_settings_are_refused(tmp_path):
    parts = tmp_path / "rows.npz.parts"
    parts.mkdir()
    (parts / "settings.json").write_text("{}")
    with pytest.raises(DataError, match="other settings"):
        build(tmp_path / "rows.npz", settings(), quiet=True)
