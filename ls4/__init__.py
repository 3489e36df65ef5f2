"""LS4: a deep latent state space model (Zhou et al. 2023)."""
