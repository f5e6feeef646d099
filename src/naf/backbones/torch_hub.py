"""Backbones of torch.hub: RADIO, Franca, CAPI, DINOv2, DINOv3 and others with a hubconf.py."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from naf.backbones.probed import ProbedBackbone, first_line
from naf.backbones.timm import BackboneError
from naf.normalization import IMAGENET_MEAN, IMAGENET_STD

PREFIX = "hub:"
_GITHUB = re.compile(r"[\w.-]+/[\w.-]+(:[\w./-]+)?")
# What the patches' features are called in outputs that are mappings: Franca without position, the DINO family,
# RADIO beside adaptors, transformers.
_KEYS = ("patch_token_rasa", "x_norm_patchtokens", "backbone", "last_hidden_state")


@dataclass(frozen=True)
class Family:
    """How the images of a repository's models are normalised.

    Attributes:
        repository: on GitHub.
        entries: what the names of its entries begin with, which tells a checkout on disk.
        mean: of the image.
        std: likewise.
    """

    repository: str
    entries: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


FAMILIES = (
    Family("NVlabs/RADIO", "radio_model", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # normalises inside
    Family("valeoai/Franca", "franca_"),
    Family("facebookresearch/capi", "capi_"),
    Family("facebookresearch/dinov2", "dinov2_"),
    Family("facebookresearch/dinov3", "dinov3_"),
)


class TorchHubBackbone(ProbedBackbone):
    """A network of torch.hub as a source of dense features.

    Its `forward_features` is called where it needs the image alone, else the network itself. It may give tokens
    (B, N, C), a map (B, C, h, w) or (B, h, w, C), a mapping that holds `x_norm_patchtokens`, or a tuple whose last
    element is one of these, as RADIO (summary, features) and CAPI (global, registers, map) do.

    **torch.hub runs the repository's code, which can do anything on this machine, and most repositories unpickle
    their weights.** torch.hub therefore asks before it runs a repository for the first time (`trust_repo="check"`),
    and this class does not answer for you. A folder is run without a question.

    Args:
        name: "OWNER/REPOSITORY:ENTRY", "OWNER/REPOSITORY:REF:ENTRY" for a tag or branch, or "FOLDER:ENTRY" for a
            checkout on disk; a folder with a hubconf.py is taken first.
        dtype: of the model; the features have it too.
        max_side: the network sees at most this many pixels on the longer side.
        mean: of the image's normalisation, 3 values for an image of 0 … 1; known for RADIO, which takes the image as
            it is, and for DINOv2, DINOv3, Franca and CAPI, which take ImageNet's.
        std: likewise.
        options: arguments of the entry (RADIO: `version="radio_v2.5-b"`; Franca: `use_rasa_head=True` for features
            without position, as published in NAF's tables) and of `torch.hub.load` (`trust_repo`, `skip_validation`).

    Raises:
        BackboneError: if the repository cannot be had or is not trusted, the entry fails, or gives no dense features.
        ValueError: if the name has another form, or the normalisation is neither known nor said.

    Example:
        >>> import torch, naf
        >>> backbone = naf.backbones.create(
        ...     "hub:NVlabs/RADIO:radio_model", version="radio_v2.5-b"
        ... )  # doctest: +SKIP
        >>> backbone(torch.rand(1, 3, 224, 320)).shape  # doctest: +SKIP
        torch.Size([1, 768, 14, 20])
    """

    def __init__(
        self,
        name: str,
        *,
        dtype: torch.dtype = torch.float32,
        max_side: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        label = PREFIX + name
        repository, _, entry = name.rpartition(":")
        folder = Path(repository).expanduser()
        is_local = bool(repository) and (folder / "hubconf.py").is_file()
        if not entry or not (is_local or _GITHUB.fullmatch(repository)):
            raise ValueError(
                f"backbone {label!r} names neither a repository nor a folder with a hubconf.py, expected "
                "hub:OWNER/REPOSITORY:ENTRY or hub:FOLDER:ENTRY"
            )
        shift, scale = _normalisation(label, None if is_local else repository, entry, mean, std)
        source = {"source": "local"} if is_local else {"source": "github", "verbose": False, "trust_repo": "check"}
        try:
            model = torch.hub.load(str(folder) if is_local else repository, entry, **{**source, **options})
        except Exception as error:  # a repository's code may raise anything
            hint = "" if is_local else ", or it is not trusted: torch.hub asks before it runs a repository's code"
            raise BackboneError(
                f"{label!r} cannot be had: {first_line(error)} (no connection and nothing in the cache, an argument "
                f"or package that the entry lacks{hint})"
            ) from error
        if not isinstance(model, nn.Module):
            raise BackboneError(f"{label!r} gives a {type(model).__name__}, expected a network")
        super().__init__(label, model.to(dtype).eval(), shift, scale, max_side)
        self.method = "forward_features" if _gives_features(self.model) else "forward"
        self.without_position = self.method == "forward_features" and bool(options.get("use_rasa_head"))
        self._probe()

    def _run(self, image: Tensor) -> Tensor:
        if self.method == "forward":
            return _last(self.model(image))
        arguments = {"use_rasa_head": True} if self.without_position else {}
        return _last(self.model.forward_features(image, **arguments))  # type: ignore[operator]


def _normalisation(
    label: str,
    repository: str | None,
    entry: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation: what was said, else the family's.

    Args:
        label: for messages.
        repository: on GitHub, with or without ":REF"; None for a folder, whose entry's name tells the family.
        entry: of the hubconf.py.
        mean: said by the user.
        std: likewise.
    """
    if mean is None and std is None:
        owned = None if repository is None else repository.partition(":")[0].lower()
        for family in FAMILIES:
            if entry.startswith(family.entries) if owned is None else owned == family.repository.lower():
                return family.mean, family.std
    elif mean is not None and std is not None and len(mean) == len(std) == 3 and min(std) > 0:
        return tuple(map(float, mean)), tuple(map(float, std))
    raise ValueError(
        f"backbone {label!r}: mean is {mean} and std is {std}, expected 3 values each, for images of 0 … 1 "
        "(the model's own are not known)"
    )


def _gives_features(model: nn.Module) -> bool:
    """Whether `forward_features` needs the image alone; CAPI's is of its training."""
    method = getattr(model, "forward_features", None)
    if method is None:
        return False
    parameters = inspect.signature(method).parameters.values()
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return sum(each.default is each.empty for each in positional) <= 1


def _last(output: Any) -> Tensor:
    """The features of the patches in what a network gives."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        for key in _KEYS:
            if output.get(key) is not None:
                return _last(output[key])
        raise TypeError(f"the output has {', '.join(map(str, output))}, expected {' or '.join(_KEYS)}")
    if isinstance(output, Sequence) and output:
        return _last(output[-1])
    raise TypeError(f"the output is a {type(output).__name__}, expected a tensor, a mapping or a tuple")
