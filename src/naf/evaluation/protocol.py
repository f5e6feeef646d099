"""The settings of a linear probe that decide its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from naf.data.labelled.geometry import Geometry
from naf.evaluation.schedule import Schedule


@dataclass(frozen=True)
class ProbeProtocol:
    """Linear probing of upsampled features (NAF, section 4.1 and appendix B).

    Attributes:
        name: of the protocol that the other values follow.
        image_size: side of the image that the backbone sees, pixels.
        target_size: side of labels and predictions.
        guidance_size: side of the image that guides the upsampling; None for image_size.
        geometry: "square" brings both sides to the size, "crop" the shorter one, and cuts the centre.
        upsample: "full" upsamples to the target; "filter" to the features' own grid, and bilinearly from there.
        epochs: of the training.
        batch_size: images a step.
        lr: learning rate at the first step.
        weight_decay: of AdamW.
        schedule: see :func:`naf.evaluation.schedule.cosine`.
        flip: probability that a batch is mirrored left to right.
        shared_order: the order of the images is the same for all seeds.
        standardize: channels of the features brought to mean 0 and deviation 1 by those of the training images.
        pixels: train on so many labelled pixels of each image, drawn once for each seed; None for all of them, anew
            at each step.
    """

    name: str = "paper"
    image_size: int = 448
    target_size: int = 448
    guidance_size: int | None = None
    geometry: Geometry = "square"
    upsample: Literal["full", "filter"] = "full"
    epochs: int = 20
    batch_size: int = 2
    lr: float = 5e-4
    weight_decay: float = 1e-5
    schedule: Schedule = "per_iteration"
    flip: float = 0.5
    shared_order: bool = False
    standardize: bool = False
    pixels: int | None = None

    def __post_init__(self) -> None:
        for key in ("image_size", "target_size", "guidance_size", "epochs", "batch_size", "pixels"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"protocol.{key} is {value}, expected at least 1")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"protocol.flip is {self.flip}, expected a probability from 0 to 1")
        if not self.lr > 0 or self.weight_decay < 0:
            raise ValueError(
                f"protocol.lr is {self.lr} and weight_decay {self.weight_decay}, expected positive numbers"
            )
        if self.pixels is not None and self.flip:
            raise ValueError("protocol.flip is above 0, expected 0 where pixels are drawn once")
        if self.pixels is not None and self.upsample == "filter":
            raise ValueError("protocol.pixels is set, expected null where features are filtered on their own grid")

    def settings(self) -> dict[str, Any]:
        """As plain values, for a record."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


P = TypeVar("P")


def protocol_from(kind: Callable[..., P], values: Mapping[str, Any]) -> P:
    """A protocol from a configuration's values.

    Args:
        kind: dataclass of the settings.
        values: of its fields.

    Raises:
        ValueError: for unknown keys, values of another type or out of range; names the key.
    """
    expected = get_type_hints(kind)
    for key, value in values.items():
        if key not in expected:
            raise ValueError(f"protocol.{key} is unknown, expected one of {', '.join(expected)}")
        allowed = get_args(expected[key]) or (expected[key],)
        if get_origin(expected[key]) is Literal:
            if value not in allowed:
                raise ValueError(f"protocol.{key} is {value!r}, expected one of {', '.join(allowed)}")
            continue
        is_bool_for_number = isinstance(value, bool) and bool not in allowed
        if is_bool_for_number or not isinstance(value, (*allowed, int) if float in allowed else allowed):
            raise ValueError(f"protocol.{key} is {value!r}, expected {' or '.join(_word(one) for one in allowed)}")
    return kind(**{key: float(value) if expected[key] is float else value for key, value in values.items()})


def _word(kind: type) -> str:
    return {type(None): "null", int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[kind]


def deviations(settings: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from a protocol's own."""
    return {key: value for key, value in settings.items() if key not in plain or plain[key] != value}
