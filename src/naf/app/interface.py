"""The page: what stands where, and what happens on a click."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from naf.app import markup
from naf.app.workbench import MOST_COMPARED, Workbench
from naf.data.samples import SAMPLES

OUTPUT_SIDES = (224, 448, 896, 1344)
KERNEL_SIZES = (3, 5, 7, 9, 11, 13, 15)

_BACKBONES = (
    "auto",
    "embedded",
    "hog",
    "vit_small_patch16_dinov3.lvd1689m",
    "vit_base_patch16_dinov3.lvd1689m",
    "vit_small_patch14_reg4_dinov2.lvd142m",
    "vit_base_patch14_reg4_dinov2.lvd142m",
    "convnext_tiny.dinov3_lvd1689m",
    "hf:facebook/dinov2-small",
)
_PLACEHOLDER = "Drop a photo here\nor click to choose one"


@dataclass(frozen=True, eq=False)
class View:
    """One tab.

    Attributes:
        tab: itself.
        empty: what it says while it has nothing to show; where it says something, the style sheet hides the rest.
            (Gradio loses one of two changes of `visible` that follow closely.)
        pictures: that it shows.
        note: under them.
        has_controls: whether the rest stays in reach while a photo is there.
    """

    tab: gr.Tab
    empty: gr.HTML
    pictures: tuple[Any, ...]
    note: gr.HTML
    has_controls: bool = False

    @property
    def parts(self) -> list[Any]:
        """Components that drawing the view changes."""
        return [self.empty, *self.pictures, self.note]


@dataclass(frozen=True, eq=False)
class Page:
    """All that is on the page and takes part in an event."""

    photo: gr.Image
    samples: gr.Gallery
    backbone: gr.Dropdown
    upsampler: gr.Dropdown
    side: gr.Radio
    run: gr.Button
    cancel: gr.Button
    status: gr.HTML
    tabs: gr.Tabs
    views: dict[str, View]
    kernel_size: gr.Radio
    head: gr.Dropdown
    clusters: gr.Slider
    methods: gr.Dropdown
    compare: gr.Button
    saves: dict[str, gr.Button]
    receipt: gr.HTML
    clock: gr.Number


def lay_out(workbench: Workbench, samples: list[Path], methods: tuple[str, ...], upsampler: str) -> Page:
    """Make the page's components, within a `gr.Blocks`.

    Args:
        workbench: tells which upsamplers there are, and the defaults.
        samples: the sample photos, in the application's own folder, in the order of `naf.data.samples.SAMPLES`.
        methods: compared at first.
        upsampler: looked at first.
    """
    choices = [(f"{name} (untrained)" if workbench.is_untrained(name) else name, name) for name in workbench.upsamplers]
    defaults = workbench.defaults
    gr.HTML(markup.HEADER)
    with gr.Row(elem_id="naf-main"):
        with gr.Column(elem_id="naf-side", min_width=280):
            photo = gr.Image(
                type="filepath",
                sources=["upload", "clipboard"],
                image_mode=None,
                show_label=False,
                buttons=[],
                placeholder=_PLACEHOLDER,
                height=230,
                elem_id="naf-photo",
                alt_text="The photo. Click it to choose a pixel.",
            )
            with gr.Column(elem_id="naf-samples-box"):
                gallery = gr.Gallery(
                    [(str(path), each.title) for path, each in zip(samples, SAMPLES, strict=True)],
                    show_label=False,
                    columns=6,
                    rows=1,
                    height="auto",
                    object_fit="cover",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id="naf-samples",
                )
                gr.HTML(markup.credits_line())
            with gr.Column(elem_id="naf-settings"):
                backbone = gr.Dropdown(
                    list(dict.fromkeys((defaults.backbone, *_BACKBONES))),
                    value=defaults.backbone,
                    label="Backbone",
                    info="Or type any timm name, or hf:USER/MODEL",
                    allow_custom_value=True,
                    elem_id="naf-backbone",
                )
                method = gr.Dropdown(
                    choices, value=upsampler, label="Upsampler", elem_id="naf-upsampler", filterable=True
                )
                side = gr.Radio(
                    sorted({*OUTPUT_SIDES, defaults.output_side}),
                    value=defaults.output_side,
                    label="Output, longer side",
                    elem_id="naf-output",
                    elem_classes="naf-pills",
                )
                with gr.Row(elem_id="naf-buttons"):
                    run = gr.Button("Run", variant="primary", elem_id="naf-run", min_width=80)
                    cancel = gr.Button("Cancel", interactive=False, elem_id="naf-cancel", min_width=80)
        with gr.Column(elem_id="naf-views", min_width=320):
            status = gr.HTML(markup.idle(), elem_id="naf-state")
            tabs = gr.Tabs(elem_id="naf-tabs", overflow_behavior="wrap")
        with tabs:
            views: dict[str, View] = {}
            with gr.Tab("Features", id="features") as tab:
                empty, body = _frame("features")
                with body:
                    slider = gr.ImageSlider(
                        show_label=False,
                        interactive=False,
                        buttons=["fullscreen"],
                        max_height=720,
                        elem_id="naf-slider",
                        elem_classes="naf-picture",
                    )
                    gr.HTML('<p class="naf-caption naf-ends"><span>coarse</span><i>◂ ▸</i><span>upsampled</span></p>')
                    views["features"] = View(tab, empty, (slider,), gr.HTML(elem_id="naf-features-note"))
            with gr.Tab("Similarity", id="similarity") as tab:
                empty, body = _frame("similarity")
                with body:
                    pictures = _pair("similarity")
                    views["similarity"] = View(tab, empty, pictures, gr.HTML(elem_id="naf-similarity-note"))
            with gr.Tab("Attention", id="attention") as tab:
                empty, body = _frame("attention")
                with body:
                    with gr.Row(elem_classes="naf-controls"):
                        kernel_size = gr.Radio(
                            list(KERNEL_SIZES),
                            label="Kernel: cells across",
                            elem_id="naf-kernel",
                            elem_classes="naf-pills",
                        )
                        head = gr.Dropdown(
                            [("mean of all", -1)], value=-1, label="Head", elem_id="naf-head", filterable=False
                        )
                    with gr.Row(elem_classes="naf-pair"):
                        pictures = (
                            _picture("attention-photo", "over the photo", is_clickable=True),
                            _picture("attention-zoom", "the window, enlarged", is_clickable=False),
                        )
                    views["attention"] = View(tab, empty, pictures, gr.HTML(elem_id="naf-attention-note"))
            with gr.Tab("Segments", id="segments") as tab:
                empty, body = _frame("segments")
                with body:
                    clusters = gr.Slider(2, 20, value=6, step=1, label="Groups (k)", elem_id="naf-clusters", buttons=[])
                    pictures = _pair("segments")
                    views["segments"] = View(tab, empty, pictures, gr.HTML(elem_id="naf-segments-note"))
            with gr.Tab("Compare", id="compare") as tab:
                empty, body = _frame("compare")
                with body:
                    with gr.Row(elem_classes="naf-controls"):
                        compared = gr.Dropdown(
                            choices,
                            value=list(methods),
                            multiselect=True,
                            max_choices=MOST_COMPARED,
                            label=f"Upsamplers, up to {MOST_COMPARED}",
                            elem_id="naf-methods",
                            scale=4,
                        )
                        compare = gr.Button(
                            "Compare", variant="primary", elem_id="naf-run-compare", scale=1, min_width=120
                        )
                    views["compare"] = View(tab, empty, (), gr.HTML(elem_id="naf-comparison"), has_controls=True)
            with gr.Tab("Download", id="download") as tab:
                empty, body = _frame("download")
                with body:
                    saves = {
                        what: _offer(what, title, text)
                        for what, title, text in (
                            ("picture", "Picture", "The upsampled features as colours. PNG, at the output size."),
                            ("features", "Features", "All channels at the output size, float16. Safetensors."),
                            ("sheet", "Comparison", "The methods chosen under Compare, on one labelled sheet. PNG."),
                            ("report", "Report", "All of these views with their figures in one HTML file."),
                        )
                    }
                    receipt = gr.HTML(elem_id="naf-receipt")
                    views["download"] = View(tab, empty, (), gr.HTML(), has_controls=True)
    return Page(
        photo=photo,
        samples=gallery,
        backbone=backbone,
        upsampler=method,
        side=side,
        run=run,
        cancel=cancel,
        status=status,
        tabs=tabs,
        views=views,
        kernel_size=kernel_size,
        head=head,
        clusters=clusters,
        methods=compared,
        compare=compare,
        saves=saves,
        receipt=receipt,
        clock=gr.Number(visible=False),
    )


def _frame(name: str) -> tuple[gr.HTML, gr.Column]:
    empty = gr.HTML(markup.empty(*markup.EMPTY[name]), elem_id=f"naf-{name}-empty")
    return empty, gr.Column(elem_id=f"naf-{name}", elem_classes="naf-body")


def _pair(name: str) -> tuple[gr.Image, gr.Image]:
    with gr.Row(elem_classes="naf-pair"):
        return (
            _picture(f"{name}-coarse", "coarse", is_clickable=True),
            _picture(f"{name}-sharp", "upsampled", is_clickable=True),
        )


def _picture(name: str, caption: str, *, is_clickable: bool) -> gr.Image:
    with gr.Column(min_width=120, elem_classes="naf-cell"):
        picture = gr.Image(
            show_label=False,
            interactive=False,
            buttons=["download", "fullscreen"],
            elem_id=f"naf-{name}",
            elem_classes="naf-picture naf-clickable" if is_clickable else "naf-picture",
            alt_text=caption,
        )
        gr.HTML(f'<p class="naf-caption">{caption}</p>')
    return picture


def _offer(what: str, title: str, text: str) -> gr.Button:
    with gr.Row(elem_classes="naf-offer"):
        gr.HTML(f"<h3>{title}</h3><p>{text}</p>", elem_classes="naf-offer-text")
        return gr.Button("Download", elem_id=f"naf-save-{what}", scale=0, min_width=130)
