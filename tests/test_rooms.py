"""Rooms import only downwards, and the ConfigDict stays at the door."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vdw_jax"

GROUND = {"types", "safe_ops", "geometry"}
ALLOWED: dict[str, set[str]] = {
    "": {"designer"},  # vdw_jax/__init__.py, which imports it when it is asked for
    "types": set(),
    "safe_ops": set(),
    "geometry": {"types", "safe_ops"},
    "structures": GROUND,
    "graphs": GROUND | {"structures"},
    "equivariant": {"safe_ops"},
    "diffusion": GROUND,
    "model": GROUND | {"structures", "graphs", "equivariant", "diffusion"},
    "training": GROUND | {"structures", "graphs", "equivariant", "diffusion", "model", "metrics"},
    "design": GROUND | {"structures", "graphs", "equivariant", "diffusion", "model", "training", "pretrained"},
    "property_model": GROUND | {"structures", "graphs", "training", "pretrained"},
    "metrics": GROUND | {"structures", "graphs"},
    "report": GROUND
    | {"structures", "graphs", "equivariant", "diffusion", "model", "training", "property_model", "metrics", "design"}
    | {"pretrained"},
    "pretrained": GROUND | {"structures", "graphs", "equivariant", "diffusion", "model", "training"},
    "designer": GROUND | {"structures", "diffusion", "training", "design", "report"},
    "evaluate": GROUND | {"structures", "diffusion", "training", "design", "metrics", "report", "property_model"},
}
ALLOWED["commands"] = ALLOWED.keys() - {""}
ALLOWED["cli"] = set()  # it names the commands and imports the one that is called
ALLOWED["__main__"] = {"cli"}
"""What each room may import besides itself, low rooms first."""

CRYSTAL_LIBRARIES = {"ase", "pymatgen", "smact", "spglib"}
NO_CRYSTAL_LIBRARIES = {"types", "safe_ops", "geometry", "equivariant", "diffusion", "model"}
ALIASES = {"structures/check.py"}
"""Other names of commands, kept for scripts; they hold nothing but the import."""
MAY_SEE_CONFIG_DICT = {"training/loop.py", "commands/train.py"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def module_name(path: Path) -> str:
    parts = ("vdw_jax", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[str, int]]:
    """Every module imported anywhere in the file, relative ones resolved, with its line."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    as_script = {inner for node in ast.walk(tree) if _is_script_part(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in as_script:
            continue  # what runs as `python -m` may call the command above it
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base == "vdw_jax":
                yield from ((f"vdw_jax.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield base, node.lineno


def _is_script_part(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def import_problems(source: str, path: Path) -> list[str]:
    room = room_of(module_name(path))
    problems = []
    for name, line in imports(ast.parse(source), path):
        top = name.split(".")[0]
        if top == "vdw_jax":
            other = room_of(name)
            if other not in {"", "__version__", room} and other not in ALLOWED.get(room, set()):
                problems.append(f"line {line}: {room} must not import {other}")
        elif top in CRYSTAL_LIBRARIES and room in NO_CRYSTAL_LIBRARIES:
            problems.append(f"line {line}: {room} must not import {top}")
    return problems


def config_dict_problems(source: str) -> list[str]:
    """Lines that name ConfigDict outside functions named `create_*`; importing it for those is fine."""
    tree = ast.parse(source)
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("create_"):
            inside |= set(ast.walk(node))
    problems = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.Import | ast.ImportFrom) and not inside:
            names = [part for alias in node.names for part in alias.name.split(".")]
            names += (getattr(node, "module", None) or "").split(".")
        if node not in inside and {"ConfigDict", "FrozenConfigDict", "ml_collections"} & set(names):
            problems.append(f"line {node.lineno}")
    return problems


def test_every_room_is_in_the_table():
    assert {room_of(module_name(path)) for path in MODULES} <= ALLOWED.keys()


def test_the_table_has_no_circle():
    done: set[str] = set()
    waiting = dict(ALLOWED)
    while waiting:
        ready = {room for room, below in waiting.items() if below <= done}
        assert ready, f"rooms import each other: {sorted(waiting)}"
        done |= ready
        waiting = {room: below for room, below in waiting.items() if room not in ready}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_down(path):
    if path.relative_to(PACKAGE).as_posix() not in ALIASES:
        assert import_problems(path.read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_config_dict_stays_at_the_door(path):
    if path.relative_to(PACKAGE).as_posix() not in MAY_SEE_CONFIG_DICT:
        assert config_dict_problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("diffusion", "from vdw_jax.model import cdvae"),
        ("diffusion", "from vdw_jax import model"),
        ("diffusion", "from ..model.cdvae import CDVAE"),
        ("diffusion", "def late():\n    import vdw_jax.model.cdvae"),
        ("equivariant", "from vdw_jax.types import CrystalBatch"),
        ("equivariant", "import pymatgen.core"),
        ("metrics", "from vdw_jax.training.export import load_weights"),
    ],
)
def test_the_check_sees_imports_upwards(room, source):
    assert len(import_problems(source, PACKAGE / room / "module.py")) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from vdw_jax.types import CrystalBatch",
        "from . import schedules",
        "from .schedules import geometric",
        "from vdw_jax.diffusion import schedules",
        "from vdw_jax import __version__",
    ],
)
def test_the_check_lets_imports_downwards_pass(source):
    assert import_problems(source, PACKAGE / "diffusion" / "module.py") == []


def test_the_check_sees_a_config_dict():
    use = "from ml_collections import ConfigDict\n"
    assert config_dict_problems(use) == ["line 1"]
    assert config_dict_problems(use + "def create_model(config: ConfigDict): ...") == []
    assert config_dict_problems(
        use + "def create_model(config: ConfigDict): ...\ndef loss(config: ConfigDict): ..."
    ) == ["line 3"]
