"""A tiny export, made once."""

import pytest

from tests.tiny import write_export
from vdw_jax.design.trained import load_trained
from vdw_jax.types import BULK


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """Its directory."""
    return write_export(tmp_path_factory.mktemp("tiny") / "export")


@pytest.fixture(scope="session")
def trained(export):
    """Read back."""
    return load_trained(export)


@pytest.fixture(scope="session")
def bulk(tmp_path_factory):
    """One for bulk crystals."""
    return load_trained(write_export(tmp_path_factory.mktemp("tiny_bulk"), BULK))
