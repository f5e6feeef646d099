"""Writing weight files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from naf.data.atomic import replace_file
from naf.weight_record import WeightRecord


def write_weights(path: Path, state: Mapping[str, Tensor], record: WeightRecord) -> None:
    """Write a safetensors file with its record, whole or not at all.

    Args:
        path: where to; replaced if there.
        state: the tensors, on any device.
        record: what the file says of itself.

    Raises:
        ValueError: if JSON cannot hold the configuration.
        OSError: if it cannot be written.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    metadata = record.metadata()

    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error

    replace_file(path, write)
