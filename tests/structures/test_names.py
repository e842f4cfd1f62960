"""Names of properties on command lines, whatever they hold."""

import pytest

from vdw_jax.structures.errors import DataError
from vdw_jax.structures.names import names_as_text, resolve_names

KNOWN = ["gap", "gap, PBE", "E_form [eV/atom]", "latent", "PBE", "ε_xx", "1e5", "None"]


@pytest.mark.parametrize("names", [[], ["gap"], ["gap", "latent"], ["gap, PBE"], ["1e5"], ["None"], KNOWN])
def test_what_is_written_is_read_again(names):
    assert resolve_names([names_as_text(names)], KNOWN, "f") == names


def test_plain_names_are_joined_and_others_are_a_list():
    assert names_as_text(["gap", "latent"]) == "gap,latent"
    assert names_as_text(["gap, PBE"]) == '["gap, PBE"]'
    assert names_as_text(["ε_xx"]) == '["ε_xx"]'


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["gap, PBE"], ["gap, PBE"]),  # the whole name before its parts
        (["gap,PBE"], ["gap", "PBE"]),
        ([" gap , latent "], ["gap", "latent"]),
        (["gap", "latent"], ["gap", "latent"]),
        ([""], []),
        ([], []),
        (['["gap, PBE", "PBE"]'], ["gap, PBE", "PBE"]),
    ],
)
def test_lists(given, expected):
    assert resolve_names(given, KNOWN, "f") == expected


def test_numbers_are_names_too():
    assert resolve_names([12], ["12"], "f") == ["12"]


def test_errors_say_what_was_tried():
    with pytest.raises(DataError, match=r"my.csv: no property 'HSE' \(tried: 'gap, HSE' as a whole, then gap, HSE\)"):
        resolve_names(["gap, HSE"], KNOWN, "my.csv")
    with pytest.raises(DataError, match=r"no property 'gip'; there are .*'gap, PBE'"):
        resolve_names(["gip"], KNOWN, "f")
    with pytest.raises(DataError, match="'gap' is named twice"):
        resolve_names(["gap,gap"], KNOWN, "f")
