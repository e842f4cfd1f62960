"""The command `vdw-jax`: one word for each thing it does, `vdw-jax WORD --help` for what that takes.

Each word names a module with a `main()` that reads the arguments of the process. It is imported when it is called:
JAX and the crystal libraries take seconds, and help should not.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from vdw_jax import __version__

COMMANDS = {
    "sample": ("vdw_jax.commands.sample", "designs crystals: a formula, elements or properties to structures"),
    "train": ("vdw_jax.commands.train", "trains a model from a config"),
    "check": ("vdw_jax.commands.check", "says what is in a file of structures, and what is wrong with it"),
    "evaluate": ("vdw_jax.evaluate.cli", "measures a model, or the structures that any generator wrote"),
    "relax": ("vdw_jax.commands.relax", "relaxes candidates with a machine-learning potential"),
    "handover": ("vdw_jax.commands.handover", "writes candidates for VASP, GPAW, ASE and others"),
    "page": ("vdw_jax.commands.page", "makes the page of a folder of candidates again"),
}
"""What each word runs, and what it is for."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; takes the arguments of the process by default."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    word = given[0] if given else "--help"
    if word in ("-h", "--help"):
        print(usage())
    elif word == "--version":
        print(f"vdw_jax {__version__}")
    elif word in COMMANDS:
        # The commands read sys.argv, and name themselves by its first word in their errors.
        sys.argv = [f"vdw-jax {word}", *given[1:]]
        importlib.import_module(COMMANDS[word][0]).main()
    else:
        print(f"vdw-jax: no command {word!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)


def usage() -> str:
    """What there is, a line each."""
    lines = [f"  {word:10s} {purpose}" for word, (_, purpose) in COMMANDS.items()]
    head = "usage: vdw-jax COMMAND ...      vdw-jax COMMAND --help      vdw-jax --version"
    return "\n".join([head, "", "Inverse design of van der Waals heterostructures.", "", *lines])
