"""Both stages in under two minutes on two cores, to see that everything runs.

`python train.py --config=configs/smoke.py --workdir=runs/smoke`
"""

from configs import j2dh8


def get_config():
    """A tiny network for a few steps."""
    config = j2dh8.get_config()
    network = dict(
        num_layers=1,
        channels=16,
        attention_channels=8,
        num_heads=2,
        alpha_channels=8,
        value_channels=8,
        ffn_channels=16,
        num_basis=16,
        edge_channels=16,
        compute_dtype="float32",
        unroll=False,
    )
    config.model.denoiser.update(network)
    config.model.encoder.update(network)
    config.model.encoder.num_layers = 1
    config.model.cdvae.update(dict(latent_dim=32, hidden_dim=32, max_neighbours=12))
    config.train.update(
        dict(batch_size=32, num_steps=60, warmup_steps=10, steps_per_call=10, steps_per_evaluation=20,
             learning_rate=3e-3, evaluation_batches=2, ema_decay=0.9)
    )  # fmt: skip
    config.latent_diffusion.update(
        dict(width=64, num_blocks=2, num_calls=8, num_steps=20, steps_per_call=10, batch_size=64)
    )
    config.sample.num_calls = 20
    return config
