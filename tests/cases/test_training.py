"""Cases 02 (training side), 13 and 34."""


import numpy as np
import pytest

from configs import custom
from tests.training import tiny_config
from vdw_jax.structures.load import load_structures
from vdw_jax.structures.names import names_as_text
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.export import read_export
from vdw_jax.training.loop import create_data, create_example, create_model, train
from vdw_jax.training.memory import fitting_settings

NAMES = ["E_form [eV/atom]", "gap, PBE", "latent", "gap (eV)"]


@pytest.mark.slow
def test_02_properties_of_any_name_are_trained_on_and_exported(case, tmp_path):
    config = tiny_config.get_config()
    config.data.update(dict(source="file", path=str(case("02") / "names.csv"), max_atoms=8))
    config.data.scalars = (names_as_text(NAMES),)  # what the command line gives
    config.train.update(dict(num_steps=5, steps_per_evaluation=5))
    train(config, tmp_path, quiet=True)
    facts, weights = read_export(tmp_path / "export")
    assert [scalar["name"] for scalar in facts["model"]["scalars"]] == NAMES
    assert facts["config"]["data"]["scalars"] == NAMES == list(facts["scalar_range"])
    assert {f"scalar_{place}_factor" for place in range(4)} <= weights["model"]["fusion"].keys()
    assert train(config, tmp_path, quiet=True)  # resumed: nothing to do, and nothing differs


@pytest.mark.parametrize("given", ["gap, PBE", '["gap, PBE"]', "gap, PBE,latent", "latent"])
def test_02_names_with_commas_are_found(case, given):
    config = tiny_config.get_config()
    config.data.update(dict(source="file", path=str(case("02") / "names.csv"), max_atoms=8))
    config.data.scalars = (given,)
    if given == "gap, PBE,latent":
        with pytest.raises(ValueError, match="no property 'gap' .tried: 'gap, PBE,latent' as a whole"):
            create_data(config)
    else:
        assert list(create_data(config)[0].scalars) == [given.strip('["]')]


def test_13_energies_of_all_electron_codes_keep_their_differences(case):
    config = tiny_config.get_config()
    config.data.update(dict(source="file", path=str(case("13") / "all_electron.extxyz"), max_atoms=8))
    config.data.scalars = ("total_energy",)
    data, _ = load_structures(config.data.path, use_cache=False)
    values = data.scalars["total_energy"]
    assert values.dtype == np.float64
    np.testing.assert_allclose(np.diff(values), 0.0007, atol=1e-6)
    model = create_model(config, data)
    (scalar,) = model.config.scalars
    assert scalar.std == pytest.approx(0.0007 * np.std(np.arange(len(values))), rel=1e-6)
    shown = np.asarray(create_example(data, model.config.scalars).scalars)[:, 0]
    np.testing.assert_allclose(np.diff(shown), 0.0007 / scalar.std, rtol=1e-3)
    assert abs(shown.mean()) < 1e-6 and shown.std() == pytest.approx(1.0, rel=1e-5)


def supercells(case):
    config = custom.get_config()
    config.data.update(dict(path=str(case("34") / "supercells.extxyz"), scalars=("gap",), max_atoms=200))
    return config


def test_34_what_does_not_fit_is_refused_before_anything_is_compiled(case, tmp_path):
    with pytest.raises(ConfigError) as caught:
        train(supercells(case), tmp_path, quiet=True)
    said = str(caught.value)
    assert said.startswith("a training step needs about 1") and "200 atoms" in said and "\n" not in said
    assert "--config.train.batch_size=" in said and "--config.model.cdvae.graph=nearest" in said
    assert not (tmp_path / "config.json").exists()


@pytest.mark.slow
def test_34_what_is_proposed_instead_trains(case, tmp_path):
    config = supercells(case)
    for name, value in (fitting_settings(config.to_dict(), 200) or {}).items():
        config.update_from_flattened_dict({name: value})
    config.train.update(dict(num_steps=2, steps_per_call=1, steps_per_evaluation=2, evaluation_batches=1))
    config.latent_diffusion.update(dict(num_steps=2, steps_per_call=1))
    assert np.isfinite(train(config, tmp_path, quiet=True)["loss"])
