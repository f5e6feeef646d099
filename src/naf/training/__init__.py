"""Training of upsamplers: data, feature sources, objectives, the two-stage recipe on Lightning and Hydra."""
