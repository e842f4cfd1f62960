"""`vdw-jax`: its words, and that help costs no library."""

import subprocess
import sys

import pytest

import vdw_jax
from vdw_jax import cli

HEAVY = {"jax", "flax", "pymatgen", "ase", "pandas", "scipy", "orbax", "torch"}


def run(*arguments):
    code = "import sys; from vdw_jax import cli; cli.main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"vdw_jax {vdw_jax.__version__}\n"


def test_usage_names_every_command(capsys):
    cli.main([])
    said = capsys.readouterr().out
    assert all(f"\n  {word} " in said for word in cli.COMMANDS)


def test_an_unknown_word_is_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["smaple"])
    assert stopped.value.code == 2
    assert "no command 'smaple'; there are sample, train" in capsys.readouterr().err


@pytest.mark.parametrize("word", cli.COMMANDS)
def test_help_imports_no_heavy_library(word):
    code = (
        "import sys; from vdw_jax import cli\n"
        f"try: cli.main([{word!r}, '--help'])\n"
        f"finally: print(sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert told.stderr.splitlines()[-1] == "[]"
    assert "usage" in told.stdout.lower() or "--config" in told.stdout


def test_an_argument_reaches_the_command(tmp_path):
    told = run("check", str(tmp_path / "nothing.csv"))
    assert told.returncode == 2 and "nothing.csv" in told.stderr
