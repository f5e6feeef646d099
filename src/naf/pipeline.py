"""From a photo to sharp features: backbone, guidance, upsampling in bands, colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from naf.backbones.base import Backbone, FeatureMap
from naf.normalization import normalize
from naf.upsamplers.base import Guidance, Upsampler
from naf.visualization.pca import PCAColors

_BAND_ROWS = 64


@dataclass(frozen=True, eq=False)
class Upsampled:
    """A photo's features before and after.

    Attributes:
        coarse: what the backbone gave.
        features: (C, Ho, Wo) on the CPU, contiguous, dtype asked for; None if only colours were asked for.
        colors: the basis of the coarse features.
        picture: PCA colours on the output grid, (3, Ho, Wo), not clamped, on the CPU.
    """

    coarse: FeatureMap
    features: Tensor | None
    colors: PCAColors
    picture: Tensor


@torch.inference_mode()
def upsample_photo(
    image01: Tensor,
    backbone: Backbone,
    upsampler: Upsampler,
    output_size: tuple[int, int] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    keep_features: bool = True,
    on_progress: Callable[[float], object] = lambda _: None,
) -> Upsampled:
    """Run a backbone on a photo and upsample its features.

    Args:
        image01: (3, H, W), values from 0 to 1, on the device of backbone and upsampler.
        backbone: gives the coarse features.
        upsampler: brings them to the output grid.
        output_size: (Ho, Wo); None for the photo's own size.
        dtype: of the features.
        keep_features: False makes the colours alone, through the upsampler, without the full map.
        on_progress: called with the share done, 0 … 1.

    Raises:
        ValueError: as backbone and upsampler do; also if the features cannot fit in this machine's memory.
    """
    image = image01[None]
    size = output_size or (image01.shape[1], image01.shape[2])
    coarse = backbone.extract(image)
    on_progress(0.1)
    kept = torch.empty((), dtype=dtype).element_size() * coarse.features.shape[1] if keep_features else 3 * 4
    check_memory(size, kept * size[0] * size[1] + upsampler.memory(coarse.image_size, size), image.device)
    colors = PCAColors.fit(coarse.features)
    guidance = upsampler.encode(normalize(image), size, coarse.grid)
    on_progress(0.4)
    if not keep_features:
        picture = guidance.upsample_linear(coarse.features.float(), colors.weight, colors.bias)[0].cpu()
        on_progress(1.0)
        return Upsampled(coarse, None, colors, picture)
    features, picture = _in_bands(guidance, coarse.features.to(dtype), colors, on_progress)
    return Upsampled(coarse, features, colors, picture)


def check_memory(output_size: tuple[int, int], needed: int, device: torch.device) -> None:
    """Refuse an output that needs more memory than is free, where the system tells how much that is.

    Args:
        output_size: (Ho, Wo), for the message.
        needed: bytes, on the device.
        device: where.

    Raises:
        ValueError: says how much it would need and what to do.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _available_bytes()
    if free is not None and needed > free:
        raise ValueError(
            f"an output of {output_size[0]}x{output_size[1]} needs {needed / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB are free: choose a smaller output size"
        )


def _in_bands(
    guidance: Guidance, features: Tensor, colors: PCAColors, on_progress: Callable[[float], object]
) -> tuple[Tensor, Tensor]:
    height, width = guidance.output_size
    out = torch.empty(features.shape[1], height, width, dtype=features.dtype)
    picture = torch.empty(3, height, width)
    for rows, band in guidance.iter_rows(features, rows=_BAND_ROWS):
        out[:, rows] = band[0].cpu()
        picture[:, rows] = colors.project(band)[0].cpu()
        on_progress(0.4 + 0.6 * rows.stop / height)
    return out, picture


def _available_bytes() -> int | None:
    """Memory that can be had without swapping, or None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
