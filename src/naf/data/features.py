"""Feature maps and pictures in files, never half-written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from naf.data.atomic import replace_file


def write_features(path: Path, features: Tensor, metadata: Mapping[str, object]) -> None:
    """Store a map as .safetensors (tensor "features" with metadata) or .npy, by the suffix of `path`.

    Args:
        path: where to; replaced if there.
        features: (C, H, W), contiguous, on the CPU.
        metadata: stored as text beside the tensor in safetensors, left out in npy.

    Raises:
        ValueError: for another suffix, or bfloat16 in npy.
        OSError: if it cannot be written.
    """
    if path.suffix == ".safetensors":
        text = {key: str(value) for key, value in metadata.items()}
        replace_file(path, lambda temporary: save_file({"features": features}, temporary, text))
    elif path.suffix == ".npy":
        if features.dtype == torch.bfloat16:
            raise ValueError("npy cannot hold bfloat16: save as safetensors, or choose float16 or float32")
        replace_file(path, lambda temporary: _save_npy(temporary, features.numpy()))
    else:
        raise ValueError(f"{path} has suffix {path.suffix!r}, expected .safetensors or .npy")


def write_picture(path: Path, picture: Image.Image) -> None:
    """Store a picture as PNG; replaced if there."""
    replace_file(path, lambda temporary: picture.save(temporary, format="PNG"))


def _save_npy(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
