"""`naf app` where it cannot start."""

import sys

import pytest

from tests.cli.called import error_of_verb, invoke_verb


def test_without_gradio_it_is_said_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    said = error_of_verb("app", monkeypatch, capsys, "--no-open")
    assert "naf app needs gradio: pip install 'naf-upsampler[app]'" in said


def test_an_address_of_another_machine_is_told(monkeypatch, capsys):
    pytest.importorskip("gradio")
    said = error_of_verb("app", monkeypatch, capsys, "--no-open", "--host", "192.0.2.1", "--port", 7860)
    assert "cannot listen at port 7860 of 192.0.2.1" in said


def test_the_options_are_few_and_explained():
    said = invoke_verb("app", "--help")
    for option in ("--host", "--port", "--backbone", "--weights", "--device", "--max-megapixels", "--no-open"):
        assert option in said
