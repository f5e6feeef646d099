"""What is trained: an upsampler or a restorer, each by the name that weight files have for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from naf import registry, restoration, weight_record
from naf.restoration import Restorer
from naf.restoration.registry import Entry
from naf.restoration.registry import entry as restorer_entry
from naf.upsamplers.base import Upsampler
from naf.weight_record import WeightRecord

Network = Upsampler | Restorer


def find_restorer(name: str) -> Entry | None:
    """The restorer that weight files call `name` ("denoise-naf"); None where it is no restorer's."""
    entries = (restorer_entry(known) for known in restoration.list_restorers())
    return next((found for found in entries if found.record_name == name), None)


def create(name: str, weights: str | Path | Mapping[str, Tensor] | None, **config: Any) -> Network:
    """By `naf.create`, or by `naf.restoration.create` for a restorer; arguments and errors as there."""
    found = find_restorer(name)
    if found is None:
        return registry.create(name, weights, **config)
    return restoration.create(found.name, weights, **config)


def record_of(network: Network) -> WeightRecord:
    """What a file of its weights says.

    Raises:
        ValueError: if :func:`create` or what stands behind it did not make the network.
    """
    return restoration.record_of(network) if isinstance(network, Restorer) else weight_record.record_of(network)


def name_of(network: Network) -> str:
    """What weight files call it."""
    return restorer_entry(network.name).record_name if isinstance(network, Restorer) else network.name
