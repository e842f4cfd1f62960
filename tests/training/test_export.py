"""Weight files: nested dicts back bit for bit, no pickle, errors that name the file and the key."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import tiny_facts, tiny_params, write_export
from vdw_jax.design.trained import PRETRAINED, CheckpointError, load_trained
from vdw_jax.model.config import ModelConfig
from vdw_jax.training.checkpoint import write_json_atomic
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.export import load_weights, read_export, save_weights, weights_like
from vdw_jax.training.export import write_export as save_export

PARAMS = {
    "encoder": {"block_0": {"kernel": np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)}},
    "scale": np.float32(0.1),
    "count": np.arange(4, dtype=np.int32),
}


@pytest.mark.parametrize(
    ("dtype", "relative"), [("float32", 0.0), ("float16", 2.0**-11), ("bfloat16", 2.0**-8)]
)
def test_round_trip(tmp_path, dtype, relative):
    path = tmp_path / "deep" / "weights.npz"
    save_weights(path, PARAMS, dtype=dtype)
    loaded = load_weights(path)
    assert loaded.keys() == PARAMS.keys()
    kernel = loaded["encoder"]["block_0"]["kernel"]
    assert kernel.dtype == np.float32 and loaded["scale"].shape == ()
    np.testing.assert_allclose(
        kernel, PARAMS["encoder"]["block_0"]["kernel"], rtol=relative, atol=0
    )
    np.testing.assert_allclose(loaded["scale"], PARAMS["scale"], rtol=relative, atol=0)
    assert loaded["count"].dtype == np.int32 and loaded["count"].tolist() == [0, 1, 2, 3]
    assert [file.name for file in path.parent.iterdir()] == ["weights.npz"]


def test_jax_and_bfloat16_leaves_and_equal_bytes(tmp_path):
    params = {"w": jnp.asarray([0.5, -1.25], jnp.bfloat16)}
    save_weights(tmp_path / "a.npz", params)
    save_weights(tmp_path / "b.npz", params)
    assert load_weights(tmp_path / "a.npz")["w"].tolist() == [0.5, -1.25]
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_file_is_plain_arrays(tmp_path):
    save_weights(tmp_path / "w.npz", PARAMS, dtype="bfloat16")
    with np.load(tmp_path / "w.npz", allow_pickle=False) as stored:
        assert stored["encoder/block_0/kernel"].dtype == np.uint16


@pytest.mark.parametrize(
    ("params", "dtype", "message"),
    [
        ({"a": {"b": np.array([1e6])}}, "float16", "a/b is not finite as float16"),
        ({"a": {"b": np.array([np.nan])}}, "float32", "a/b is not finite"),
        ({"a/b": np.zeros(1)}, "float32", "'a/b' under '/' cannot be a key"),
        ({"a": np.zeros(1)}, "float8", "dtype must be one of"),
    ],
)
def test_what_cannot_be_saved_is_named_and_leaves_no_file(tmp_path, params, dtype, message):
    with pytest.raises(ValueError, match=message):
        save_weights(tmp_path / "w.npz", params, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_leaves_that_are_no_numbers(tmp_path):
    with pytest.raises(TypeError, match="w.npz: a has dtype"):
        save_weights(tmp_path / "w.npz", {"a": np.array(["x"])})


def test_load_errors_name_the_file_and_key(tmp_path):
    path = tmp_path / "w.npz"
    with pytest.raises(FileNotFoundError, match="w.npz"):
        load_weights(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="w.npz: not a weight file"):
        load_weights(path)
    np.savez(path, a=np.zeros(2))
    with pytest.raises(ValueError, match="w.npz: not a weight file"):
        load_weights(path)

    save_weights(path, {"a": {"kernel": np.arange(1000, dtype=np.float32)}})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="w.npz: not a weight file"):
        load_weights(path)
    middle = whole.index(np.float32(500).tobytes())
    path.write_bytes(whole[:middle] + b"\xff" + whole[middle + 1 :])
    with pytest.raises(ValueError, match="w.npz: a/kernel is damaged"):
        load_weights(path)


def test_a_pickle_inside_is_refused(tmp_path):
    path = tmp_path / "w.npz"
    header = np.array('{"version": 1, "dtype": "float32", "bfloat16_keys": []}')
    np.savez(path, __header__=header, a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ValueError, match="w.npz: a is damaged"):
        load_weights(path)


def test_a_training_begins_from_an_export(tmp_path):
    folder = write_export(tmp_path / "export")
    fresh = jax.tree.map(jnp.zeros_like, tiny_params())
    for place in (folder, tmp_path):
        begun = weights_like(fresh, place, ["energy_ev"])
        jax.tree.map(np.testing.assert_array_equal, begun, tiny_params())


def test_but_not_from_another_model(tmp_path):
    folder = write_export(tmp_path / "export")
    other = {"params": dict(tiny_params()["params"], latent={"kernel": jnp.zeros((3, 4))})}
    with pytest.raises(
        ConfigError, match=r"train\.start_from: .*export is of another model: .*'latent'"
    ):
        weights_like(other, folder, ["energy_ev"])
    with pytest.raises(
        ConfigError, match=r"data.scalars are \['energy_ev'\] there, \['gap'\] here"
    ):
        weights_like(tiny_params(), folder, ["gap"])
    with pytest.raises(ConfigError, match="train.start_from: no trained model at"):
        weights_like(tiny_params(), tmp_path / "none", ["energy_ev"])


NAMES = ["E_form [eV/atom]", "gap, PBE", "latent", "scalar_0", "mean/params.fusion", "ε ∥"]
"""Two of them are names that the code itself uses."""


def facts_of(names: list[str]) -> dict[str, Any]:
    """What stands in model.json of a model of these conditions."""
    facts = tiny_facts()
    scalars = [
        {"name": name, "mean": -1e5 - place, "std": 1e-3} for place, name in enumerate(names)
    ]
    facts["model"] = facts["model"] | {"scalars": scalars}
    return facts | {"scalar_range": {name: [-1.0, 1.0] for name in names}}


def weights_of(names: list[str]) -> dict[str, Any]:
    """Weights of a model of these conditions, one told from the other."""
    config = ModelConfig.from_dict(json.loads(json.dumps(facts_of(names)["model"])))
    params = dict(tiny_params()["params"])
    fusion = {
        name: leaf for name, leaf in params["fusion"].items() if not name.startswith("scalar")
    }
    for place in range(len(names)):
        fusion[f"scalar_{place}_factor"] = np.full(
            (config.num_basis, config.lmf_rank, config.latent_dim), 1.0 + place
        )
        fusion[f"scalar_{place}_unit"] = np.full((config.lmf_rank, config.latent_dim), 2.0 + place)
    head = params["property_head"]
    last = {"kernel": np.ones((config.hidden_dim, len(names))), "bias": np.ones(len(names))}
    params |= {"fusion": fusion, "property_head": head | {"Dense_1": last}}
    latent = {"mean": np.zeros(config.latent_dim), "std": np.ones(config.latent_dim)}
    return {"model": params, "generator": {"params": {"w": np.ones(3)}}, "latent": latent}


def test_properties_of_any_name_are_exported_and_loaded(tmp_path):
    save_export(tmp_path, facts_of(NAMES), weights_of(NAMES))
    facts, weights = read_export(tmp_path)
    assert [scalar["name"] for scalar in facts["model"]["scalars"]] == NAMES
    for place in range(len(NAMES)):
        assert (weights["model"]["fusion"][f"scalar_{place}_factor"] == 1.0 + place).all()
    trained = load_trained(tmp_path)
    assert [scalar.name for scalar in trained.model.config.scalars] == NAMES
    assert trained.model.config.scalars[1].mean == -1e5 - 1


def test_exports_whose_weights_were_named_after_properties_give_the_same(tmp_path):
    """Names that are each other's new ones too."""
    names = ["scalar_1", "scalar_0", "gap"]
    new = weights_of(names)
    save_export(tmp_path / "new", facts_of(names), new)
    fusion = dict(new["model"]["fusion"])
    for place in range(3):
        for part in ("factor", "unit"):
            del fusion[f"scalar_{place}_{part}"]
    for place, name in enumerate(names):
        for part in ("factor", "unit"):
            fusion[f"{name}_{part}"] = new["model"]["fusion"][f"scalar_{place}_{part}"]
    (tmp_path / "old").mkdir()
    old = new | {"model": new["model"] | {"fusion": fusion}}
    save_weights(tmp_path / "old" / "weights.npz", jax.device_get(old), dtype="float16")
    write_json_atomic(tmp_path / "old" / "model.json", facts_of(names))
    found = [read_export(tmp_path / folder)[1] for folder in ("old", "new")]
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_the_shipped_weights_are_what_the_file_has():
    _, weights = read_export(PRETRAINED)
    with np.load(PRETRAINED / "weights.npz") as stored:
        for place, name in enumerate(
            ("formation_energy_ev", "binding_energy_ev_per_a2", "lattice_constant_angstrom")
        ):
            for part in ("factor", "unit"):
                expected = stored[f"model/fusion/{name}_{part}"].astype(np.float32)
                np.testing.assert_array_equal(
                    weights["model"]["fusion"][f"scalar_{place}_{part}"], expected
                )
        assert len(jax.tree.leaves(weights)) == len(stored.files) - 1


def test_every_flipped_byte_of_an_export_is_noticed(tmp_path):
    save_export(tmp_path, facts_of(["gap"]), weights_of(["gap"]))
    rng = np.random.default_rng(0)
    for name in ("weights.npz", "model.json"):
        path = tmp_path / name
        whole = path.read_bytes()
        for place in rng.integers(len(whole), size=40):
            content = bytearray(whole)
            content[place] ^= int(rng.integers(1, 256))
            path.write_bytes(content)
            with pytest.raises(ValueError) as caught:
                read_export(tmp_path)
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        path.write_bytes(whole)
    read_export(tmp_path)


def test_weights_of_another_export_are_noticed(tmp_path):
    for name in ("one", "other"):
        save_export(
            tmp_path / name,
            facts_of([name]),
            weights_of([name]) | {"latent": {"mean": np.zeros(8), "std": np.full(8, len(name))}},
        )
    (tmp_path / "one" / "weights.npz").write_bytes(
        (tmp_path / "other" / "weights.npz").read_bytes()
    )
    with pytest.raises(ValueError, match="weights.npz: it is damaged or of another export"):
        read_export(tmp_path / "one")


def changed(facts: dict, path: str, value: Any) -> dict:
    """A copy with another value, or without the entry."""
    copy = json.loads(json.dumps(facts))
    *parents, name = path.split(".")
    part = copy
    for parent in parents:
        part = part[parent]
    if value is None:
        del part[name]
    else:
        part[name] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("model", None, "model is missing"),
        ("model", 3, "model is a section, not 3"),
        (
            "model.denoiser.num_layers",
            10**9,
            "model.denoiser.num_layers is a whole number from 1 to 1000, not 1000000000",
        ),
        (
            "model.denoiser.num_layers",
            2,
            "model/denoiser/layers/norm_attention/scale is (1, 1, 8) there, (2, 1, 8) by model.json",
        ),
        ("model.denoiser.num_layers", "1", "model.denoiser.num_layers is a whole number"),
        ("model.encoder.channels", None, "model.encoder.channels is missing"),
        ("model.encoder.edge_grid", [7, 9], "model.encoder.edge_grid is a section"),
        (
            "model.encoder.edge_activation",
            "os.system",
            "model.encoder.edge_activation is 's2' or 'gate'",
        ),
        (
            "model.encoder.compute_dtype",
            "object",
            "model.encoder.compute_dtype is 'float32' or 'bfloat16'",
        ),
        ("model.scalars", {"name": "x"}, "model.scalars is a list of scalars"),
        (
            "model.scalars",
            [{"name": "x", "mean": 0.0, "std": 0.0}],
            "model.scalars is a list of scalars",
        ),
        ("model.lattice_std", [1.0] * 5, "model.lattice_std is a list of 6 values"),
        ("model.latent_dim", 10**12, "model.latent_dim is a whole number"),
        ("model.latent_dim", 9, "latent/mean is (8,) there, (9,) by model.json"),
        ("atom_counts", [], "atom_counts is a list of at least 1"),
        ("elements", [0], "elements is a list"),
        ("scalar_range", {}, "scalar_range has no 'gap'"),
        ("formulas", None, "formulas is missing"),
        ("config", None, "config is missing"),
        ("config.generator", "vdw_jax.model", "config.generator is 'gan' or 'diffusion'"),
        ("config.loss", None, "config.loss is missing"),
        ("config.loss.sigma_min", -1, "config.loss.sigma_min is a number above 0"),
        ("config.loss.py", 1, "config.loss.py is no setting"),
        ("config.sample.schedule", "x", "config.sample.schedule is 'annealed_langevin'"),
        ("config.latent_diffusion.width", 1e300, "config.latent_diffusion.width is a whole number"),
        ("format", 3, "format is 3, and this version reads 2"),
    ],
)
def test_damaged_facts_are_named(tmp_path, path, value, named):
    """As someone may have written them, so that no checksum tells."""
    save_export(tmp_path, facts_of(["gap"]), weights_of(["gap"]))
    facts = json.loads((tmp_path / "model.json").read_text())
    del facts["facts_sha256"]
    write_json_atomic(tmp_path / "model.json", changed(facts, path, value))
    with pytest.raises(CheckpointError) as caught:
        load_trained(tmp_path)
    assert (
        named in str(caught.value)
        and str(tmp_path) in str(caught.value)
        and "\n" not in str(caught.value)
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"model": NaN}']
)
def test_what_is_no_json_is_named(tmp_path, content):
    save_export(tmp_path, facts_of(["gap"]), weights_of(["gap"]))
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="model.json"):
        load_trained(tmp_path)
