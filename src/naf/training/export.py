"""Trained weights as a safetensors file that says what it is, and a model card beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from naf.data.atomic import replace_file
from naf.restoration import Restorer
from naf.training.card import upsampler_card
from naf.training.network import Network, record_of
from naf.training.parity import PHOTO, SIDE, parity, reduced
from naf.training.restorer_card import restorer_card
from naf.training.trained import read_json, read_trained
from naf.weight_writer import write_weights

DTYPES = ("auto", "float32", "float16", "bfloat16")
PARITY = 1e-3
"""What "auto" lets a reduced precision cost, as :func:`naf.training.parity.parity` measures it."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        file: the weights.
        card: the model card.
        dtype: of the large parameters.
        parity: see :func:`naf.training.parity.parity`; 0 for float32.
    """

    file: Path
    card: Path
    dtype: torch.dtype
    parity: float


def export(
    source: Path,
    output: Path,
    *,
    name: str = "",
    config: Mapping[str, Any] | None = None,
    dtype: str = "auto",
    evaluation: Sequence[Path] = (),
    licence: str = "",
    licence_note: str = "",
    overwrite: bool = False,
) -> Exported:
    """Write the weights of a run or a checkpoint as :func:`export_upsampler` does.

    Args:
        source: see :func:`naf.training.trained.read_trained`.
        output: where to, .safetensors.
        name: of the upsampler or restorer ("denoise-naf"), where the source does not say it.
        config: constructor arguments, likewise.
        dtype: see :func:`export_upsampler`.
        evaluation: JSON files with results, for the card; each under the name of its file.
        licence: of the weights; empty for what the source says, or else "apache-2.0" for a run and "unknown" for a
            file.
        licence_note: what else holds.
        overwrite: replace what is there.

    Raises:
        ValueError, WeightsError: as :func:`export_upsampler` and :func:`naf.training.trained.read_trained`.
        OSError: if it cannot be written.
    """
    _check_output(output, dtype, overwrite)
    results = {path.stem.replace("_", " "): read_json(path) for path in evaluation}
    trained = read_trained(source, name, config)
    stated = licence or trained.about.get("licence") or ("apache-2.0" if trained.is_run else "unknown")
    about = {**trained.about, "licence": stated, **({"licence_note": licence_note} if licence_note else {})}
    results = {**trained.evaluation, **results}
    return export_upsampler(
        trained.upsampler, output, about=about, evaluation=results, dtype=dtype, overwrite=overwrite
    )


def export_upsampler(
    upsampler: Network,
    output: Path,
    *,
    about: Mapping[str, str],
    evaluation: Mapping[str, Any] | None = None,
    dtype: str = "auto",
    overwrite: bool = False,
) -> Exported:
    """Write an upsampler's or a restorer's weights, and the card NAME.md beside NAME.safetensors: both or neither.

    `naf.create` and `naf.restoration.create` take the configuration from the file.

    Args:
        upsampler: made by these; float32, in evaluation mode, on the CPU.
        output: where to, .safetensors.
        about: see :class:`naf.weight_record.WeightRecord`.
        evaluation: see :class:`naf.training.card.ModelCard`.
        dtype: of the large parameters. "auto" is the first of float16 and bfloat16 that moves no output on a real
            photo by more than PARITY of the greatest, else float32.
        overwrite: replace what is there.

    Raises:
        ValueError: for another suffix or dtype, files that are there, a configuration that is not known, a method
            that has nothing to be exported, values that the dtype cannot hold or that are not finite.
        OSError: if it cannot be written.
    """
    card = _check_output(output, dtype, overwrite)
    if getattr(upsampler, "fits_one_image", False) or not upsampler.state_dict():
        raise ValueError(f"{upsampler.name!r} has no weights that serve other images: nothing to export")
    if not all(value.isfinite().all() for value in upsampler.state_dict().values()):
        raise ValueError(f"{upsampler.name!r} has weights that are not finite: its training failed")
    record = record_of(upsampler)
    candidates = [torch.float16, torch.bfloat16] if dtype == "auto" else [getattr(torch, dtype)]
    for kind in [*candidates, torch.float32]:
        state = reduced(upsampler, kind)
        cost = 0.0 if kind == torch.float32 else parity(upsampler, state)
        if cost <= PARITY or dtype != "auto":
            break
    if cost == torch.inf:
        raise ValueError(f"dtype {dtype} cannot hold these weights: take bfloat16 or float32")
    words = str(kind).removeprefix("torch.")
    facts = {
        **about,
        "dtype": words if kind == torch.float32 else f"{words} (small parameters and buffers float32)",
        "parity": f"Greatest difference to the float32 outputs: {cost:.1e} of the greatest output, on a photo "
        f"({PHOTO}, {SIDE}x{SIDE}), computed in float32",
    }
    record = replace(record, about=facts)
    card_of = restorer_card if isinstance(upsampler, Restorer) else upsampler_card
    text = card_of(record, evaluation, output.name).markdown()

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")
        write_weights(output, state, record)  # within: a card alone would describe nothing

    replace_file(card, write)
    return Exported(output, card, kind, cost)


def _check_output(output: Path, dtype: str, overwrite: bool) -> Path:
    """Where the card goes."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
    if output.suffix != ".safetensors":
        raise ValueError(f"output is {output}, expected a name that ends in .safetensors")
    card = output.with_suffix(".md")
    there = [path for path in (output, card) if path.exists()]
    if there and not overwrite:
        raise ValueError(f"{there[0]} exists (--overwrite replaces it)")
    return card
