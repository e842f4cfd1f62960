"""A small relative of `j2dh8.py` that a laptop trains in about an hour.

`python train.py --config=configs/j2dh8_laptop.py --workdir=runs/j2dh8_laptop`
"""

from configs import j2dh8


def get_config():
    """A third of the channels, float32, batches of 32."""
    config = j2dh8.get_config()
    network = dict(
        channels=32,
        attention_channels=16,
        num_heads=4,
        alpha_channels=16,
        value_channels=8,
        ffn_channels=32,
        num_basis=32,
        edge_channels=32,
        compute_dtype="float32",
        unroll=False,
    )
    config.model.denoiser.update(network)
    config.model.encoder.update(network)
    config.model.encoder.num_layers = 1
    config.model.cdvae.update(dict(latent_dim=64, hidden_dim=128, max_neighbours=14))
    config.loss.kl = 1e-3  # as measured with this network
    config.train.update(
        dict(batch_size=32, num_steps=6_000, warmup_steps=200, learning_rate=2e-3, ema_decay=0.998)
    )
    config.latent_diffusion.update(dict(width=256, num_steps=8_000, batch_size=128))
    return config
