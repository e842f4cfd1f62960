"""Trains both stages: `python train.py --config=configs/j2dh8.py --workdir=runs/j2dh8`.

The same command goes on from the last checkpoint after any interruption.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging as python_logging
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

_WORKDIR = "Checkpoints, metrics and exported weights go here."
_DISTRIBUTED = "One of several processes, found by JAX: SLURM, TPU pods, GKE."
_ALLOW_CHANGES = "Go on from checkpoints of other settings or data."
_COORDINATOR = "HOST:PORT of process 0, where JAX cannot find it."


def _define_flags() -> None:
    """Here and not on import, so that the flags are those of this command alone."""
    _offer_configs()
    config_flags.DEFINE_config_file("config", None, "Config file, e.g. configs/j2dh8.py.")
    flags.DEFINE_string("workdir", "runs/latest", _WORKDIR)
    flags.DEFINE_bool("distributed", False, _DISTRIBUTED)
    flags.DEFINE_string("coordinator", None, _COORDINATOR)
    flags.DEFINE_integer("num_processes", None, "With --coordinator: how many processes there are.")
    flags.DEFINE_integer("process_id", None, "With --coordinator: which this is, from 0.")
    flags.DEFINE_bool("quiet", False, "No progress line.")
    flags.DEFINE_bool("allow_changes", False, _ALLOW_CHANGES)
    flags.mark_flag_as_required("config")


def _offer_configs() -> None:
    """Makes `from configs import base` of a config file work where the package is installed without its repository."""
    if importlib.util.find_spec("configs") is None:
        sys.modules["configs"] = importlib.import_module("vdw_jax.configs")


def _with_shipped_config(argument: str) -> str:
    """`--config=configs/j2dh8.py` where no such file is there, as the file of that name that came with the package."""
    name, _, path = argument.partition("=")
    shipped = Path(__file__).parents[1] / "configs" / Path(path).name
    is_config = name == "--config" and shipped.suffix == ".py"
    return f"{name}={shipped}" if is_config and not Path(path).exists() and shipped.is_file() else argument


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; takes the arguments of the process by default."""
    _define_flags()
    given = sys.argv[1:] if arguments is None else arguments
    argv = ["train.py", *map(_with_shipped_config, given)]
    app.run(_main, argv=argv, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
    """The config is read here: a setting that it does not have is named in one line."""
    try:
        return list(app.parse_flags_with_usage(argv))
    except (AttributeError, KeyError) as error:
        # What the config says where a setting is not: "'lerning_rate'" and, if one is near, 'Did you mean ...?'.
        said = [line.strip("' \"") for line in str(error).strip("\"'").replace("\\n", "\n").splitlines()]
        given = next((word for word in argv if word.startswith("--config.") and said[0] in word), said[0])
        name = given.removeprefix("--config.").split("=")[0]
        advice = f". {said[1]}" if len(said) > 1 else ""
        raise SystemExit(f"train.py: {name} is no setting of the config{advice}") from None
    except (OSError, SyntaxError, ImportError, TypeError) as error:
        if not isinstance(error, OSError):
            raise  # a fault in a config file is shown where it is
        raise SystemExit(f"train.py: {str(error).strip().splitlines()[0]}") from None


def _main(argv: list[str]) -> None:
    import jax  # and all that needs it: not for --help

    from vdw_jax.structures.errors import DataError
    from vdw_jax.training.checkpoint import CheckpointError
    from vdw_jax.training.errors import ConfigError
    from vdw_jax.training.loop import train

    del argv
    given = flags.FLAGS
    logging.set_verbosity(logging.ERROR)  # orbax warns of what is meant so
    # Of a damaged checkpoint asyncio writes tracebacks; the one line on it is ours.
    python_logging.getLogger("asyncio").setLevel(python_logging.CRITICAL)
    if given.distributed or given.coordinator:
        jax.distributed.initialize(given.coordinator, given.num_processes, given.process_id)
    try:
        metrics = train(given.config, given.workdir, quiet=given.quiet, allow_changes=given.allow_changes)
    except (ConfigError, DataError, FileNotFoundError, FloatingPointError) as error:
        raise SystemExit(f"train.py: {error}") from None
    except CheckpointError as error:
        advice = "If they are of another config, choose another --workdir."
        raise SystemExit(f"train.py: {error}\n{advice}") from None
    except KeyboardInterrupt:
        print("train.py: stopped at once; the same command goes on from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None
    for name, value in metrics.items() if jax.process_index() == 0 else ():
        print(f"{name:28s} {value:.5f}")
