"""Hydra's files for `naf eval`."""
