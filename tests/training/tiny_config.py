"""The smoke config, smaller still."""

from configs import smoke


def get_config():
    """A few steps of each stage."""
    config = smoke.get_config()
    for part in (config.model.encoder, config.model.denoiser):
        part.update(dict(channels=8, lmax=1, mmax=1, node_grid=(2, 4)))
    config.model.cdvae.update(dict(latent_dim=8, hidden_dim=16, max_neighbours=8))
    config.data.source = "iii_vi"
    config.train.update(
        dict(batch_size=8, num_steps=60, steps_per_call=5, steps_per_evaluation=10, warmup_steps=2, learning_rate=1e-2)
    )
    config.latent_diffusion.update(dict(width=16, num_blocks=1, num_steps=6, steps_per_call=2))
    return config
