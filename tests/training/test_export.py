"""Weight files: nested dicts back bit for bit, no pickle, errors that name the file and the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import tiny_params, write_export
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.export import load_weights, save_weights, weights_like

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
    np.testing.assert_allclose(kernel, PARAMS["encoder"]["block_0"]["kernel"], rtol=relative, atol=0)
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
    begun = weights_like(fresh, folder / "weights.npz")
    jax.tree.map(np.testing.assert_array_equal, begun, tiny_params())


def test_but_not_from_another_model(tmp_path):
    folder = write_export(tmp_path / "export")
    other = {"params": dict(tiny_params()["params"], latent={"kernel": jnp.zeros((3, 4))})}
    with pytest.raises(ConfigError, match=r"train\.start_from: .*weights\.npz is of another model: .*'latent'"):
        weights_like(other, folder / "weights.npz")
