"""Hydra's files for `naf train`."""
