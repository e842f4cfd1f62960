"""What every config shares; the others change it, never copy it."""

import ml_collections


def network(**changes) -> ml_collections.ConfigDict:
    """An EquiformerV2, the paper's unless changed."""
    config = ml_collections.ConfigDict(
        dict(
            num_layers=8,
            channels=128,
            attention_channels=64,
            num_heads=8,
            alpha_channels=64,
            value_channels=16,
            ffn_channels=128,
            lmax=4,
            mmax=2,
            edge_channels=128,
            num_basis=600,
            cutoff_angstrom=7.0,
            alpha_dropout=0.1,
            drop_path=0.1,
            edge_activation="s2",
            ffn_activation="mlp",
            edge_grid=(7, 9),
            node_grid=(7, 13),
            reflections=False,
            adaptive_envelope=False,
            condition_every_layer=False,
            average_degree=20.0,
            compute_dtype="float32",
            kernels=False,
            remat=False,
            unroll=False,
        )
    )
    config.update(changes)
    return config


def get_config() -> ml_collections.ConfigDict:
    """The paper's model and training on J2DH-8."""
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(
                source="j2dh8",
                path="",  # structures of one's own, instead of the source: docs/tutorial_custom_data.md
                scalars=("formation_energy_ev",),  # conditions; on the command line as a,b
                max_atoms=20,
                periodicity="auto",  # of the path: "slab", "bulk", or "auto" for what most of it is
                skip_problems=False,  # of the path: leave out what is wrong in it instead of stopping
                split="structure",
                split_seed=0,
            ),
            model=dict(
                encoder=network(),
                denoiser=network(),
                cdvae=dict(
                    latent_dim=256,
                    hidden_dim=256,
                    lmf_rank=4,
                    num_basis=50,
                    formula_dim=128,
                    max_neighbours=20,
                    graph="nearest",
                    noise_conditioned=False,
                    species_noise_conditioned=False,
                    stack_head=False,
                ),
            ),
            loss=dict(
                num_atoms=1.0,
                lattice=10.0,
                composition=1.0,
                coordinates=10.0,
                species=1.0,
                kl=0.01,
                properties=1.0,
                stack=1.0,
                sigma_max=10.0,
                sigma_min=0.01,
                species_sigma_max=5.0,
                species_sigma_min=0.01,
                num_levels=50,
                coupled_noise=False,
                free_species_share=0.0,
                window_share=0.0,
                window_max=1.3,
                window_min=0.4,
                free_translation=False,
                condition_dropout=0.5,
                free_share=0.0,
            ),
            train=dict(
                batch_size=512,
                num_steps=24_000,
                steps_per_epoch=24,
                learning_rate=1e-3,
                schedule="plateau",
                warmup_steps=0,
                clip=0.5,
                clip_by="value",
                ema_decay=0.999,
                steps_per_call=24,
                steps_per_evaluation=240,
                evaluation_batches=4,
                max_minutes=1e6,
                start_from="",
            ),
            generator="gan",  # of latents; or "diffusion"
            gan=dict(
                generator_hidden=(512, 512, 1024, 1024, 512),
                critic_hidden=(512, 512, 512),
                num_steps=12_000,
                steps_per_call=100,
                critic_steps=5,
                penalty=10.0,
                batch_size=512,
                learning_rate=2e-4,
                condition_dropout=0.5,
                free_share=0.0,
                critic_dropout=0.5,
                ema_decay=0.999,
            ),
            latent_diffusion=dict(
                width=512,
                num_blocks=4,
                num_calls=24,
                num_steps=20_000,
                steps_per_call=500,
                batch_size=512,
                learning_rate=1e-3,
                warmup_steps=200,
                condition_dropout=0.5,
                free_share=0.0,
                ema_decay=0.999,
            ),
            # Schedules and grids: SAMPLERS and GRIDS of vdw_jax/diffusion/samplers.py. annealed_langevin has num_levels
            # and steps_per_level, the others num_calls and a grid.
            sample=dict(
                schedule="annealed_langevin", num_levels=50, steps_per_level=100, num_calls=50, grid="geometric"
            ),
        )
    )
