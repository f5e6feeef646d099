"""Evaluation: the tables of the field, one protocol a file."""
