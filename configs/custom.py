"""A first model of a few hundred structures of one's own, in 10 minutes of two cores: docs/tutorial_custom_data.md.

`python train.py --config=configs/custom.py --config.data.path=my.extxyz --config.data.scalars=gap --workdir=runs/mine`
"""

from configs import j2dh8_laptop


def get_config():
    """The laptop's network with fewer steps, each of half as many structures."""
    config = j2dh8_laptop.get_config()
    config.data.update(dict(source="file", scalars=(), max_atoms=20))
    config.train.update(
        dict(batch_size=16, num_steps=800, warmup_steps=50, steps_per_call=25, steps_per_evaluation=200)
    )
    config.latent_diffusion.num_steps = 4_000
    return config
