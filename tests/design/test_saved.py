"""Saved requests: what they hold, and what may keep them from giving the same again."""

import argparse
import dataclasses
import json
import os

import pytest

from vdw_jax.design.request import RequestError
from vdw_jax.design.saved import (
    default_folder,
    describe_run,
    differences,
    parse_with_saved,
    read_saved,
)
from vdw_jax.design.trained import PRETRAINED


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target_formula")
    parser.add_argument("--target_energy")
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--relax")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", default=str(PRETRAINED))
    for name in ("--request", "--out"):
        parser.add_argument(name)
    parser.add_argument("--overwrite", action="store_true")
    return parser


@pytest.fixture
def saved(parser, trained, tmp_path):
    """One of energy -0.1 and seed 7."""
    path = tmp_path / "request.json"
    settings = vars(parser.parse_args(["--target_energy=-0.1", "--seed=7", "--out=there", "--overwrite"]))
    path.write_text(json.dumps(describe_run(settings, trained, 3)))
    return path


def test_what_is_saved(saved):
    told = read_saved(saved)
    settings = {"target_formula": None, "target_energy": "-0.1", "target": [], "relax": None, "seed": 7}
    assert told["settings"] == settings  # nothing of this machine
    assert told["command"] == "python sample.py --target_energy=-0.1 --seed=7"
    assert len(told["model"]["weights_sha256"]) == 64 and told["model"]["data_hash"] == "none"
    assert "jax" in told["versions"] and told["network_calls"] == 3


def test_another_checkpoint_is_saved_whole(trained, export, monkeypatch):
    monkeypatch.chdir(export)
    told = describe_run({"checkpoint": "."}, trained, 3)
    assert told["settings"] == {"checkpoint": str(export.resolve())}


def test_settings_stand_in_for_what_is_not_given(parser, saved):
    given = parse_with_saved(parser, [f"--request={saved}", "--out=here"])
    assert (given.target_energy, given.seed, given.out, given.overwrite) == ("-0.1", 7, "here", False)
    assert given.checkpoint == str(PRETRAINED)
    assert parse_with_saved(parser, [f"--request={saved}", "--seed=8"]).seed == 8


def test_without_a_request(parser):
    assert parse_with_saved(parser, ["--seed=8"]).seed == 8


def test_unknown_settings(parser, saved):
    told = read_saved(saved)
    saved.write_text(json.dumps(told | {"settings": {**told["settings"], "colour": 1}}))
    with pytest.raises(RequestError, match="no setting colour"):
        parse_with_saved(parser, [f"--request={saved}"])


def change(path, **settings):
    """Other settings in a saved request."""
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"settings": told["settings"] | settings}))


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("seed", "7", 'seed is a whole number, not "7"'),
        ("seed", True, "seed is a whole number, not true"),
        ("seed", 1.5, "seed is a whole number, not 1.5"),
        ("target_formula", 3, "target_formula is a text, not 3"),
        ("target", "gap=1", 'target is a list of texts, not "gap=1"'),
        ("target", [1], r"target is a list of texts, not \[1\]"),
        ("checkpoint", None, "checkpoint is a text, not null"),
        ("out", "/etc", "a request has no setting out"),
        ("overwrite", True, "a request has no setting overwrite"),
        ("request", "other.json", "a request has no setting request"),
        ("\x1b[2J", 1, r"a request has no setting  \[2J"),
    ],
)
def test_settings_that_a_file_may_not_have(parser, saved, name, value, said):
    change(saved, **{name: value})
    with pytest.raises(RequestError, match=said) as caught:
        parse_with_saved(parser, [f"--request={saved}"])
    assert str(caught.value).isprintable()


def test_an_energy_that_a_file_has_as_a_number(parser, saved):
    change(saved, target_energy=-0.25)
    assert parse_with_saved(parser, [f"--request={saved}"]).target_energy == "-0.25"


@pytest.mark.parametrize("potential", ["sevennet", "chgnet+d3", "mace"])
def test_a_file_may_name_the_potentials_that_are_built_in(parser, saved, potential):
    change(saved, relax=potential)
    assert parse_with_saved(parser, [f"--request={saved}"]).relax == potential


@pytest.mark.parametrize("potential", ["os:getcwd", "nothing", "sevennet:x", "sevennet+d3+d3+d3", ""])
def test_a_file_may_not_name_code(parser, saved, potential):
    change(saved, relax=potential)
    with pytest.raises(RequestError, match="may name sevennet, chgnet, mace"):
        parse_with_saved(parser, [f"--request={saved}"])
    for given in ("os:getcwd", "chgnet"):  # what is given beside it counts
        assert parse_with_saved(parser, [f"--request={saved}", f"--relax={given}"]).relax == given


def test_files_are_read_up_to_a_size(saved, tmp_path):
    for name, text in {"large": " " * 1_000_001, "deep": "[" * 100_000, "binary": "\udcff"}.items():
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(RequestError, match=f"{name} cannot be read"):
            read_saved(tmp_path / name)
    with pytest.raises(RequestError, match="it is no file"):
        read_saved(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RequestError, match="it is no file"):
        read_saved(tmp_path / "fifo")


@pytest.mark.parametrize(
    "settings, folder",
    [
        ({}, "samples/any-seed0"),
        ({"target_formula": "GaInSSe2", "seed": 3}, "samples/GaInSSe2-seed3"),
        ({"target_energy": "-0.25 .. -0.15"}, "samples/-0.25..-0.15eV-seed0"),
        ({"target": ["gap = 1", "../../a/b=2"]}, "samples/gap=1_.._.._a_b=2-seed0"),
        ({"target": ["gap>=1"]}, "samples/gap_=1-seed0"),
    ],
)
def test_folders_are_named_by_what_is_asked(settings, folder):
    nothing = {"target_formula": None, "chemical_system": None, "target_energy": None, "target": [], "seed": 0}
    assert default_folder(argparse.Namespace(**nothing | settings)) == folder


def test_a_folder_has_no_endless_name():
    nothing = {"target_formula": None, "chemical_system": None, "target_energy": None, "seed": 0}
    assert len(default_folder(argparse.Namespace(**nothing, target=["x" * 5000 + "=1"]))) < 150


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"settings": 3}'])
def test_what_is_no_request(tmp_path, text):
    path = tmp_path / "request.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RequestError, match="request.json") as caught:
        read_saved(path)
    assert "\n" not in str(caught.value)


def test_differences(parser, saved, trained):
    settings = vars(parse_with_saved(parser, [f"--request={saved}"]))
    now = describe_run(settings, trained, 3)
    assert differences(None, settings, now) == differences(saved, settings, now) == []
    moved = now | {"device": "8 x TPU", "versions": {**now["versions"], "jax": "9.9"}}
    notes = differences(saved, settings, moved)
    assert len(notes) == 2 and "8 x TPU" in notes[0] and "jax 9.9 instead of" in notes[1]
    other = describe_run(settings, dataclasses.replace(trained, weights_sha256="0"), 3)
    with pytest.raises(RequestError, match="does not hold the weights"):
        differences(saved, settings, other)
    asked = other | {"settings": {**other["settings"], "checkpoint": "/elsewhere"}}
    assert differences(saved, settings, asked) == ["other weights than those of the request"]
