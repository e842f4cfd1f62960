"""What the commands repeat of libraries that take seconds to import is what stands there."""

import pytest

from vdw_jax.commands import handover, relax
from vdw_jax.evaluate import cli, reference
from vdw_jax.report.handover import FORMATS
from vdw_jax.report.relaxing import MOST_STEPS
from vdw_jax.structures.potentials import CHOICE


def test_formats_potentials_and_steps(capsys):
    assert tuple(FORMATS) == handover.FORMATS
    assert tuple(reference.FAMILIES) == cli.FAMILIES
    assert relax.POTENTIALS == CHOICE
    with pytest.raises(SystemExit):
        relax.parse_arguments(["--help"])
    assert f"default: {MOST_STEPS}" in capsys.readouterr().out
