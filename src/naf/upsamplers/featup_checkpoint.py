"""Files that a fit is continued from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from naf.weights import WeightsError

_FORMAT = "featup-implicit fit 1"


def write_fit(path: Path, fingerprint: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a fit so that an interruption leaves the old file or the new one, never half of one.

    Args:
        path: of the file.
        fingerprint: what the fit depends on, plain values.
        state: tensors and plain containers.
    """
    part = path.with_name(f"{path.name}.part")
    torch.save({"format": _FORMAT, "fingerprint": fingerprint, "state": state}, part)
    part.replace(path)


def read_fit(path: Path, fingerprint: dict[str, Any]) -> dict[str, Any]:
    """The state of a fit, on the CPU; nothing is unpickled but tensors and plain containers.

    Raises:
        WeightsError: if the file is no such checkpoint or its fit depends on something else; says what.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any way
        raise WeightsError(f"checkpoint {path} cannot be read: {error}") from error
    if not isinstance(saved, dict) or saved.get("format") != _FORMAT:
        raise WeightsError(f"checkpoint {path} is no checkpoint of a featup-implicit fit")
    other = saved["fingerprint"]
    differences = [name for name in fingerprint if other.get(name) != fingerprint[name]]
    if differences:
        raise WeightsError(
            f"checkpoint {path} is of another fit: {', '.join(differences)} "
            f"{'differs' if len(differences) == 1 else 'differ'}. Delete the file to start anew"
        )
    state: dict[str, Any] = saved["state"]
    return state
