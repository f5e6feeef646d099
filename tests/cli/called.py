"""A verb of the command line, called as a user calls it."""

import sys

import pytest
from typer.testing import CliRunner

from naf.cli import app, main
from naf.visualization import comparison_sheet


def invoke_verb(verb, *arguments, status=0):
    """Standard output of a call that ends with a status."""
    result = CliRunner().invoke(app, [verb, *map(str, arguments)])
    assert result.exit_code == status, (result.output, result.exception)
    return result.stdout


def error_of_verb(verb, monkeypatch, capsys, *arguments):
    """The one line that a call says on standard error as it ends with status 2."""
    monkeypatch.setattr(sys, "argv", ["naf", verb, *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def record_sheets(monkeypatch, verb):
    """A list that takes the panels and options of each sheet that a verb's module draws."""
    calls = []

    def record(panels, **options):
        calls.append((panels, options))
        return comparison_sheet(panels, **options)

    monkeypatch.setattr(verb, "comparison_sheet", record)
    return calls
