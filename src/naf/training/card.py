"""Model cards: Markdown with the YAML front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from naf.registry import Entry, entry
from naf.weight_record import WeightRecord

LIBRARY = "naf-upsampler"
PRECISION = ("dtype", "parity")  # what WeightRecord.about says of the file's numbers, not of the training
_LICENCE = re.compile(r"[a-z0-9.+-]+")


@dataclass(frozen=True)
class ModelCard:
    """What a reader must know of a weight file.

    Attributes:
        title: heading.
        summary: one paragraph.
        usage: Python that loads the file.
        training: how it came about, in words, by what it is: "data", "backbones", "steps", …
        intended_use: one paragraph.
        limits: what it cannot or may not do, one sentence each.
        evaluation: results by heading, as JSON holds them: numbers and text in any depth of objects and lists.
        precision: dtype of the file and what it costs.
        licence: of the weights, as the Hub abbreviates it ("apache-2.0", "cc-by-nc-4.0", "other", "unknown").
        licence_note: what else holds, of the training data for example.
        tags: for the Hub's search.
        citation: the paper.
        pipeline_tag: task, in the Hub's words.
    """

    title: str
    summary: str
    usage: str
    training: Mapping[str, str]
    intended_use: str
    limits: Sequence[str]
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    precision: str = ""
    licence: str = "unknown"
    licence_note: str = ""
    tags: Sequence[str] = ()
    citation: str = ""
    pipeline_tag: str = "image-feature-extraction"

    def __post_init__(self) -> None:
        if not _LICENCE.fullmatch(self.licence):
            raise ValueError(f"licence is {self.licence!r}, expected an identifier of the Hub, as 'apache-2.0'")

    def markdown(self) -> str:
        """The card as a file's text; imports huggingface_hub for the front matter."""
        from huggingface_hub import ModelCardData

        front = ModelCardData(
            license=self.licence, library_name=LIBRARY, pipeline_tag=self.pipeline_tag, tags=list(self.tags)
        )
        sections = {
            "Use": f"```python\n{self.usage}\n```",
            "Training": _table(["", ""], [[_label(key), value] for key, value in self.training.items()]),
            "Evaluation": "\n\n".join(f"### {name}\n\n{_results(data)}" for name, data in self.evaluation.items()),
            "Precision": self.precision,
            "Intended use": self.intended_use,
            "Limits": "\n".join(f"- {limit}" for limit in self.limits),
            "Licence": f"Weights: {self.licence}. {self.licence_note}".strip(),
            "Citation": self.citation,
        }
        body = "\n\n".join(f"## {name}\n\n{text}" for name, text in sections.items() if text)
        return f"---\n{front.to_yaml()}\n---\n\n# {self.title}\n\n{self.summary}\n\n{body}\n"


def upsampler_card(record: WeightRecord, evaluation: Mapping[str, Any] | None = None, file: str = "") -> ModelCard:
    """The card of an upsampler's weights.

    Args:
        record: what the file says of itself.
        evaluation: see :class:`ModelCard`.
        file: name of the file; empty for a folder of the Hub.

    Raises:
        ValueError: for an unknown upsampler or a licence that is no identifier.
    """
    about, known = record.about, entry(record.upsampler)
    width = record.config.get(known.channels_argument) if known.channels_argument else None
    served = "of any backbone and width" if width is None else f"of {width} channels, of the backbone it was trained on"
    backbone = ", backbone=backbone" if known.needs_backbone else ""
    weights = file or "hf:USER/REPOSITORY"
    settings = ", ".join(f"{key}={value!r}" for key, value in record.config.items())
    return ModelCard(
        title=f"{known.name}: weights for feature upsampling",
        summary=f"{known.summary} ({known.cls.__name__} of {LIBRARY}). Brings the coarse features of a vision backbone "
        "to the resolution of the image.",
        usage=f'import naf\n\nupsampler = naf.create("{known.name}", weights="{weights}"{backbone})\n'
        "sharp = upsampler(naf.normalize(image), features, output_size)",
        training={
            **{key: value for key, value in about.items() if key not in (*PRECISION, "licence", "licence_note")},
            "configuration": settings,
        },
        evaluation=evaluation or {},
        precision=". ".join(about[key] for key in PRECISION if key in about),
        intended_use=f"Upsampling features {served}, for dense prediction, visualisation and research. The image is "
        "RGB, ImageNet-normalised (`naf.normalize`).",
        limits=_limits(known, about),
        licence=about.get("licence", "unknown"),
        licence_note=about.get("licence_note", ""),
        tags=["feature-upsampling", "vision-foundation-models", known.cls.__name__.lower()],
        citation=f"The method: {known.paper}.",
    )


def read_card(path: Path) -> str:
    """The text of a card file.

    Raises:
        ValueError: if it is missing or no UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"card {path} cannot be read: {error}") from error


def _limits(known: Entry, about: Mapping[str, str]) -> list[str]:
    limits = [
        "Trained on the features named above as backbones; all others are zero-shot."
        if known.is_vfm_agnostic and about.get("backbones")
        else "Measured on no other backbones than those under Evaluation, if any."
        if known.is_vfm_agnostic
        else "Features of another backbone, even of the same width, need weights of their own."
    ]
    if known.ratios:
        ratios = ", ".join(map(str, known.ratios))
        limits.append(f"The network makes ratio {ratios}; other sizes are resized bilinearly.")
    limits.append("It cannot add what the features do not hold: objects far smaller than a cell stay lost.")
    limits.append("Learned on few or on particular images, it carries their bias; test it on your own before relying.")
    return limits


def _label(key: str) -> str:
    return key.replace("_", " ")


def _results(data: Any) -> str:
    """Tables of JSON values, one for each level that holds plain values."""
    if isinstance(data, Mapping):
        plain = {key: value for key, value in data.items() if _is_plain(value)}
        rows = {key: value for key, value in data.items() if _is_row(value)}
        parts = [_table(["", ""], [[_label(key), _text(value)] for key, value in plain.items()])] if plain else []
        if rows:
            parts.append(_rows([{"": _label(key), **row} for key, row in rows.items()]))
        deeper = {key: value for key, value in data.items() if key not in plain and key not in rows}
        parts += [f"**{_label(key)}**\n\n{_results(value)}" for key, value in deeper.items()]
        return "\n\n".join(parts)
    if isinstance(data, Sequence) and not isinstance(data, str):
        if data and all(map(_is_row, data)):
            return _rows(data)
        return "\n".join(f"- {_text(value)}" if _is_plain(value) else _results(value) for value in data)
    return _text(data)


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return _table([_label(key) for key in columns], [[_text(row.get(key, "")) for key in columns] for row in rows])


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(map(_is_plain, value.values()))


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in row) + " |" for row in lines
    )
