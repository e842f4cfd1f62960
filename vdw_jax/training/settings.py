"""Training configs, checked before anything is loaded or compiled, and compared with those of a run begun before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vdw_jax.diffusion.samplers import GRIDS, MIN_CALLS, SAMPLERS
from vdw_jax.model.generators import DIFFUSION, GAN
from vdw_jax.structures.source import SOURCES
from vdw_jax.structures.splits import COLUMNS
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.rules import (
    CDVAE_SIZES,
    NETWORK,
    SEED,
    SHARE,
    SIZE,
    TEXT,
    YES_OR_NO,
    Rule,
    Rules,
    above,
    between,
    choice,
    find_faults,
    several,
    whole,
)

STEPS = whole(1)
_DECAY = between(0, 0.999_999_999)
_LIST = Rule("a list of names", lambda x: isinstance(x, list | tuple))

RULES: Rules = {
    "seed": SEED,
    "data": {
        "source": choice(*SOURCES),
        "path": TEXT,
        "scalars": _LIST,
        "max_atoms": whole(1, 10_000),
        "periodicity": choice("auto", "slab", "bulk"),
        "skip_problems": YES_OR_NO,
        "split": choice(*COLUMNS),
        "split_seed": SEED,
    },
    "model": {"encoder": NETWORK, "denoiser": NETWORK, "cdvae": CDVAE_SIZES},
    "loss": {
        "num_atoms": between(0),
        "lattice": between(0),
        "composition": between(0),
        "coordinates": between(0),
        "species": between(0),
        "kl": between(0),
        "properties": between(0),
        "stack": between(0),
        "sigma_max": above(0),
        "sigma_min": above(0),
        "species_sigma_max": above(0),
        "species_sigma_min": above(0),
        "num_levels": whole(2),
        "coupled_noise": YES_OR_NO,
        "free_species_share": SHARE,
        "window_share": SHARE,
        "window_max": above(0),
        "window_min": above(0),
        "free_translation": YES_OR_NO,
        "condition_dropout": SHARE,
        "free_share": SHARE,
    },
    "train": {
        "batch_size": SIZE,
        "num_steps": STEPS,
        "steps_per_epoch": STEPS,
        "learning_rate": above(0),
        "schedule": choice("cosine", "plateau"),
        "warmup_steps": whole(0),
        "clip": above(0),
        "clip_by": choice("norm", "value"),
        "ema_decay": _DECAY,
        "steps_per_call": STEPS,
        "steps_per_evaluation": STEPS,
        "evaluation_batches": STEPS,
        "max_minutes": above(0),
        "start_from": TEXT,
    },
    "generator": choice(GAN, DIFFUSION),
    "gan": {
        "generator_hidden": several(SIZE, 1),
        "critic_hidden": several(SIZE, 1),
        "num_steps": STEPS,
        "steps_per_call": STEPS,
        "critic_steps": STEPS,
        "penalty": between(0),
        "batch_size": SIZE,
        "learning_rate": above(0),
        "condition_dropout": SHARE,
        "free_share": SHARE,
        "critic_dropout": between(0, 0.999),
        "ema_decay": _DECAY,
    },
    "latent_diffusion": {
        "width": SIZE,
        "num_blocks": whole(1, 1000),
        "num_calls": whole(MIN_CALLS, 1_000_000),
        "num_steps": STEPS,
        "steps_per_call": STEPS,
        "batch_size": SIZE,
        "learning_rate": above(0),
        "warmup_steps": whole(0),
        "condition_dropout": SHARE,
        "free_share": SHARE,
        "ema_decay": _DECAY,
    },
    "sample": {
        "schedule": choice(*SAMPLERS),
        "num_levels": whole(MIN_CALLS),
        "steps_per_level": STEPS,
        "num_calls": whole(MIN_CALLS),
        "grid": choice(*GRIDS),
    },
}
"""Every setting of a config, as configs/base.py has them."""

SECTIONS = {GAN: "gan", DIFFUSION: "latent_diffusion"}
"""Which section of a config the second stage reads."""

FREE = {
    "data.path",  # the data are compared by their hash, wherever they lie
    "train.steps_per_call",
    "train.steps_per_evaluation",
    "train.evaluation_batches",
    "train.max_minutes",
    "train.start_from",  # read when a run begins, not when it goes on
    "gan.steps_per_call",
    "latent_diffusion.steps_per_call",
    "sample.schedule",
    "sample.num_levels",
    "sample.steps_per_level",
    "sample.num_calls",
    "sample.grid",
}
"""Settings that may differ when a run goes on: none of them changes what the steps on disk were."""

GROWING = {"train.num_steps", "gan.num_steps", "latent_diffusion.num_steps"}
"""Settings that may become larger: the run is extended."""


def check_config(values: Mapping[str, Any]) -> None:
    """Checks all settings of a config, as a plain nested dict.

    Raises:
      ConfigError: one or more cannot be; the message names each by its path, with what is allowed, a line each.
    """
    faults = find_faults(values, RULES)
    if not faults:
        faults = list(_between_settings(values))
    if faults:
        raise ConfigError("\n".join(faults))


def _between_settings(values: Mapping[str, Any]) -> Iterator[str]:
    for name in ("encoder", "denoiser"):
        network = values["model"][name]
        if network["mmax"] > network["lmax"]:
            yield f"model.{name}.mmax is {network['mmax']}, more than model.{name}.lmax, {network['lmax']}"
    loss = values["loss"]
    for name in ("sigma", "species_sigma", "window"):
        low, high = loss[f"{name}_min"], loss[f"{name}_max"]
        if low >= high:
            yield f"loss.{name}_min is {low:g}; it must be below loss.{name}_max, {high:g}"


def differing(
    there: Mapping[str, Any], here: Mapping[str, Any], *, skip_sections: tuple[str, ...] = ()
) -> list[str]:
    """Settings of a run begun before that are others now and may not be, each as `name: there -> here`.

    Args:
      there, here: configs as plain nested dicts, also after a trip through JSON.
      skip_sections: sections that nothing on disk depends on.
    """
    old, new = _flat(there), _flat(here)
    lines = []
    for name in sorted(old.keys() | new.keys()):
        is_skipped = name in FREE or name.split(".")[0] in skip_sections
        # A setting that either version of the program lacks has its default there.
        if is_skipped or name not in old or name not in new or old[name] == new[name]:
            continue
        if name in GROWING and new[name] > old[name]:
            continue
        lines.append(f"{name}: {old[name]} -> {new[name]}")
    return lines


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}{name}.")
        else:
            flat[path + name] = list(value) if isinstance(value, tuple) else value
    return flat
