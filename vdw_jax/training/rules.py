"""What a setting may be, said once: for configs, and for what is read back from an export."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from vdw_jax.training.seeds import LARGEST_SEED


@dataclasses.dataclass(frozen=True)
class Rule:
    """A test of one value, and the words for what passes it."""

    words: str
    holds: Callable[[Any], bool]


def whole(least: int, most: int = 1_000_000_000) -> Rule:
    """A whole number between two, both allowed."""
    return Rule(
        f"a whole number from {least} to {most}", lambda x: _is_whole(x) and least <= x <= most
    )


def above(bound: float, most: float = math.inf) -> Rule:
    """A finite number above one."""
    end = "" if most == math.inf else f" and up to {most:g}"
    return Rule(f"a number above {bound:g}{end}", lambda x: _is_number(x) and bound < x <= most)


def between(least: float, most: float = math.inf) -> Rule:
    """A finite number from one to another, both allowed."""
    words = (
        f"a number of at least {least:g}"
        if most == math.inf
        else f"a number from {least:g} to {most:g}"
    )
    return Rule(words, lambda x: _is_number(x) and least <= x <= most)


def choice(*values: Any) -> Rule:
    """One of a few."""
    words = " or ".join(repr(value) for value in values)
    return Rule(words, lambda x: any(type(x) is type(value) and x == value for value in values))


def several(rule: Rule, least: int = 0, most: int = 10_000) -> Rule:
    """A list of values that pass a rule."""
    count = (
        f"{least}"
        if least == most
        else f"at least {least}"
        if most == 10_000
        else f"{least} to {most}"
    )
    return Rule(
        f"a list of {count} values, each {rule.words}",
        lambda x: (
            isinstance(x, list | tuple) and least <= len(x) <= most and all(map(rule.holds, x))
        ),
    )


SIZE = whole(1, 1_000_000)
SHARE = between(0, 1)
ANY_NUMBER = Rule("a finite number", lambda x: _is_number(x))
YES_OR_NO = Rule("True or False", lambda x: isinstance(x, bool))
TEXT = Rule("a text", lambda x: isinstance(x, str))
SEED = whole(0, LARGEST_SEED)
GRID = several(SIZE, 2, 2)

NETWORK: dict[str, Rule] = {
    "num_layers": whole(1, 1000),
    "channels": SIZE,
    "attention_channels": SIZE,
    "num_heads": SIZE,
    "alpha_channels": SIZE,
    "value_channels": SIZE,
    "ffn_channels": SIZE,
    "lmax": whole(1, 20),
    "mmax": whole(0, 20),
    "edge_channels": SIZE,
    "num_basis": whole(2, 1_000_000),
    "cutoff_angstrom": above(0, 1000),
    "alpha_dropout": between(0, 0.999),
    "drop_path": between(0, 0.999),
    "edge_activation": choice("s2", "gate"),
    "ffn_activation": choice("mlp", "product"),
    "edge_grid": GRID,
    "node_grid": GRID,
    "reflections": YES_OR_NO,
    "adaptive_envelope": YES_OR_NO,
    "condition_every_layer": YES_OR_NO,
    "average_degree": above(0),
    "compute_dtype": choice("float32", "bfloat16", "float64"),
    "kernels": YES_OR_NO,
    "remat": YES_OR_NO,
    "unroll": YES_OR_NO,
}

CDVAE_SIZES: dict[str, Rule] = {
    "latent_dim": SIZE,
    "hidden_dim": SIZE,
    "lmf_rank": SIZE,
    "num_basis": whole(2, 1_000_000),
    "formula_dim": SIZE,
    "max_neighbours": SIZE,
    "graph": choice("nearest", "pairs"),
    "noise_conditioned": YES_OR_NO,
    "species_noise_conditioned": YES_OR_NO,
    "stack_head": YES_OR_NO,
}

Rules = Mapping[str, "Rule | Rules"]


def find_faults(
    values: Any, rules: Rules, path: str = "", *, optional: Collection[str] = (), exact: bool = True
) -> list[str]:
    """What is wrong, a line each, named by its path as in `train.batch_size`.

    Args:
      values: nested mappings.
      rules: of the same shape.
      path: of `values` in the whole.
      optional: names that may be missing.
      exact: whether there may be nothing that has no rule.
    """
    if not isinstance(values, Mapping):
        return [f"{path or 'the whole'} is a section, not {_shown(values)}"]
    faults = []
    for name in values if exact else ():
        if name not in rules:
            near = difflib.get_close_matches(str(name), list(rules), 1)
            advice = f"; did you mean {_join(path, near[0])}?" if near else ""
            faults.append(f"{_join(path, name)} is no setting{advice}")
    for name, rule in rules.items():
        where = _join(path, name)
        if name not in values:
            faults += [] if name in optional else [f"{where} is missing"]
        elif not isinstance(rule, Rule):
            faults += find_faults(values[name], rule, where, optional=optional, exact=exact)
        elif not rule.holds(values[name]):
            faults.append(f"{where} is {rule.words}, not {_shown(values[name])}")
    return faults


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _shown(value: Any) -> str:
    shown = repr(
        tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
    )
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
