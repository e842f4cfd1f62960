"""The best model we know, for J2DH-8 and the quintuple-layer family.

`python train.py --config=configs/j2dh8.py --workdir=runs/j2dh8`; minutes and results are in RESULTS.md.
"""

from configs import base


def get_config():
    """All pairs of atoms, denoiser that knows its noise, exact equivariance, species that only swap sites."""
    config = base.get_config()
    network = dict(
        num_layers=2,
        channels=96,
        attention_channels=48,
        alpha_channels=32,
        value_channels=12,
        ffn_channels=96,
        lmax=2,
        num_basis=96,
        cutoff_angstrom=16.0,
        edge_channels=96,
        alpha_dropout=0.0,
        drop_path=0.0,
        edge_activation="gate",
        ffn_activation="product",
        node_grid=(4, 7),
        reflections=True,
        adaptive_envelope=True,
        condition_every_layer=True,
        compute_dtype="bfloat16",
        kernels=True,
        unroll=True,
    )
    config.model.denoiser.update(network)
    config.model.encoder.update(network)
    config.model.cdvae.update(
        dict(graph="pairs", noise_conditioned=True, species_noise_conditioned=True, stack_head=True)
    )
    config.data.source = "j2dh8+iii_vi"
    config.data.scalars = ("formation_energy_ev", "binding_energy_ev_per_a2", "lattice_constant_angstrom")
    config.data.max_atoms = 10
    config.loss.update(
        dict(
            coupled_noise=True, free_species_share=0.5, kl=3e-4, window_share=0.6, free_translation=True,
            free_share=0.3,
        )
    )  # fmt: skip
    config.train.update(
        dict(
            batch_size=256,
            num_steps=12_000,
            schedule="cosine",
            warmup_steps=500,
            clip=1.0,
            clip_by="norm",
            steps_per_call=50,
            steps_per_evaluation=500,
        )
    )
    config.generator = "diffusion"
    config.latent_diffusion.update(dict(num_steps=30_000, batch_size=1024, free_share=0.3))
    config.sample.schedule = "few_step_langevin"
    return config
