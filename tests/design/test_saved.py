"""Saved requests: what they hold, and what may keep them from giving the same again."""

import argparse
import dataclasses
import json

import pytest

from vdw_jax.design.request import RequestError
from vdw_jax.design.saved import describe_run, differences, parse_with_saved, read_saved
from vdw_jax.design.trained import PRETRAINED


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target_formula")
    parser.add_argument("--target_energy", type=float)
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
    assert told["settings"] == {"target_formula": None, "target_energy": -0.1, "seed": 7}  # nothing of this machine
    assert told["command"] == "python sample.py --target_energy=-0.1 --seed=7"
    assert len(told["model"]["weights_sha256"]) == 64 and told["model"]["data_hash"] == "none"
    assert "jax" in told["versions"] and told["network_calls"] == 3


def test_another_checkpoint_is_saved_whole(trained, export, monkeypatch):
    monkeypatch.chdir(export)
    told = describe_run({"checkpoint": "."}, trained, 3)
    assert told["settings"] == {"checkpoint": str(export.resolve())}


def test_settings_stand_in_for_what_is_not_given(parser, saved):
    given = parse_with_saved(parser, [f"--request={saved}", "--out=here"])
    assert (given.target_energy, given.seed, given.out, given.overwrite) == (-0.1, 7, "here", False)
    assert given.checkpoint == str(PRETRAINED)
    assert parse_with_saved(parser, [f"--request={saved}", "--seed=8"]).seed == 8


def test_without_a_request(parser):
    assert parse_with_saved(parser, ["--seed=8"]).seed == 8


def test_unknown_settings(parser, saved):
    told = read_saved(saved)
    saved.write_text(json.dumps(told | {"settings": {**told["settings"], "colour": 1}}))
    with pytest.raises(RequestError, match="no setting colour"):
        parse_with_saved(parser, [f"--request={saved}"])


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
