"""Trains both stages: `python train.py --config=configs/j2dh8.py --workdir=runs/j2dh8`.

The same command goes on from the last checkpoint after any interruption.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from vdw_jax.structures.errors import DataError
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.loop import train

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, e.g. configs/j2dh8.py.")
WORKDIR = flags.DEFINE_string("workdir", "runs/latest", "Checkpoints, metrics and exported weights go here.")
QUIET = flags.DEFINE_bool("quiet", False, "No progress line.")
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Entry point."""
    del argv
    logging.set_verbosity(logging.ERROR)  # orbax warns of what is meant so
    try:
        metrics = train(CONFIG.value, WORKDIR.value, quiet=QUIET.value)
    except (ConfigError, DataError, FileNotFoundError) as error:
        raise SystemExit(f"train.py: {error}") from None
    for name, value in metrics.items():
        print(f"{name:28s} {value:.5f}")


if __name__ == "__main__":
    app.run(main)
