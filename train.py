"""Trains both stages: `python train.py --config=configs/j2dh8.py --workdir=runs/j2dh8`.

The same command goes on from the last checkpoint after any interruption.
"""

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from vdw_jax.structures.errors import DataError
from vdw_jax.training.checkpoint import CheckpointError
from vdw_jax.training.errors import ConfigError
from vdw_jax.training.loop import train

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, e.g. configs/j2dh8.py.")
WORKDIR = flags.DEFINE_string("workdir", "runs/latest", "Checkpoints, metrics and exported weights go here.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes, found by JAX: SLURM, TPU pods, GKE.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where JAX cannot find it.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator: how many processes there are.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --coordinator: which this is, from 0.")
QUIET = flags.DEFINE_bool("quiet", False, "No progress line.")
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Entry point."""
    del argv
    logging.set_verbosity(logging.ERROR)  # orbax warns of what is meant so
    if DISTRIBUTED.value or COORDINATOR.value:
        jax.distributed.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    try:
        metrics = train(CONFIG.value, WORKDIR.value, quiet=QUIET.value)
    except (ConfigError, DataError, FileNotFoundError) as error:
        raise SystemExit(f"train.py: {error}") from None
    except CheckpointError as error:
        advice = "If they are of another config, choose another --workdir."
        raise SystemExit(f"train.py: {error}\n{advice}") from None
    for name, value in metrics.items() if jax.process_index() == 0 else ():
        print(f"{name:28s} {value:.5f}")


if __name__ == "__main__":
    app.run(main)
