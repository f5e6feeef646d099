"""Hydra's files for `naf train` and `naf eval`."""
