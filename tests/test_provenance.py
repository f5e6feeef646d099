"""Where a result comes from."""

import sys

from naf import provenance


def test_the_command_names_the_program_without_its_folder(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/naf", "train", "name=my run"])
    assert provenance.command() == "naf train 'name=my run'"


def test_a_notebook_has_no_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/ipykernel_launcher.py", "-f", "/home/someone/kernel.json"])
    assert provenance.command() == ""
