"""What went wrong, as the page and programs are told it."""

from __future__ import annotations

from html import escape

import gradio as gr

EXPECTED = (ValueError, OSError, RuntimeError)
"""Failures that are told in their own words."""


def one_line(error: Exception) -> str:
    """The first line of its message."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def told(error: Exception) -> gr.Error:
    """A failure as Gradio shows it: one line, no traceback. Its messages are HTML."""
    return gr.Error(escape(one_line(error), quote=False), print_exception=False)
