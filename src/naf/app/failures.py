"""What went wrong, as the page and programs are told it."""

from __future__ import annotations

from html import escape

import gradio as gr

from naf.app.networks import first_line

EXPECTED = (ValueError, OSError, RuntimeError)
"""Failures that are told in their own words."""


def told(error: Exception) -> gr.Error:
    """A failure as Gradio shows it: one line, no traceback. Its messages are HTML."""
    return gr.Error(escape(first_line(error), quote=False), print_exception=False)
