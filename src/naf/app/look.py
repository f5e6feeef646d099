"""How the page looks: colours and type of Gradio's theme; `style.css` has the rest."""

from __future__ import annotations

from importlib.resources import files

import gradio as gr
from gradio.themes.utils.colors import Color

# The system's own fonts: nothing is fetched.
_SANS = (
    "ui-sans-serif",
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Noto Sans",
    "Helvetica Neue",
    "sans-serif",
)
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")

# The violet of the heat maps' middle, and a grey that leans to their night blue.
_VIOLET = Color(
    name="violet",
    c50="#f8f3fb",
    c100="#f0e5f6",
    c200="#e0cbec",
    c300="#c9a3dc",
    c400="#af77c9",
    c500="#9450b3",
    c600="#7b3a9a",
    c700="#652e7f",
    c800="#4c2361",
    c900="#361945",
    c950="#220f2c",
)
_GREY = Color(
    name="grey",
    c50="#f8f8fa",
    c100="#f0f0f4",
    c200="#e2e2e9",
    c300="#cbccd6",
    c400="#9697a6",
    c500="#6c6d7d",
    c600="#4f505f",
    c700="#363744",
    c800="#23242e",
    c900="#181920",
    c950="#101116",
)


def theme() -> gr.themes.Base:
    """Quiet surfaces, one accent; light and dark."""
    return gr.themes.Base(
        primary_hue=_VIOLET,
        secondary_hue=_VIOLET,
        neutral_hue=_GREY,
        font=_SANS,
        font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_lg,
        text_size=gr.themes.sizes.text_md,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_shadow="none",
        block_label_text_color="*neutral_500",
        block_label_text_color_dark="*neutral_400",
        block_title_text_weight="500",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_800",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        input_border_width="1px",
        input_border_color="*neutral_200",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover_dark="*primary_400",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        loader_color="*primary_600",
        loader_color_dark="*primary_300",
        link_text_color="*primary_600",
        link_text_color_dark="*primary_300",
    )


def style() -> str:
    """The style sheet."""
    return files("naf.app").joinpath("style.css").read_text(encoding="utf-8")
