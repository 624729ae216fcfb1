"""The making of the tiny base, a complete latent diffusion model for 64×64 pixels."""
