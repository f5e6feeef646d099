"""From a photo to sharp features: backbone, guidance, upsampling in bands, colours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.backbones.base import Backbone, FeatureMap
from naf.benchmark.measure import available_mib
from naf.data.band_store import BAND_BYTES, BandStore
from naf.data.digest import add_tensors
from naf.normalization import normalize
from naf.upsamplers.base import MEMORY_BUDGET, Guidance, Upsampler
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


@dataclass(frozen=True, eq=False)
class Streamed:
    """A photo's features on disk.

    Attributes:
        coarse: what the backbone gave.
        store: complete.
        resumed_at: output row that an earlier run had got to.
        colors: the basis of the coarse features.
    """

    coarse: FeatureMap
    store: BandStore
    resumed_at: int
    colors: PCAColors


@torch.inference_mode()
def stream_photo(
    image01: Tensor,
    backbone: Backbone,
    upsampler: Upsampler,
    open_store: Callable[[FeatureMap, tuple[int, int, int], str], BandStore],
    output_size: tuple[int, int] | None = None,
    *,
    on_progress: Callable[[float], object] = lambda _: None,
) -> Streamed:
    """Run a backbone on a photo and write its upsampled features to disk, in bands; bounded memory at any size.

    Args:
        image01: (3, H, W), values from 0 to 1, on the device of backbone and upsampler.
        backbone: gives the coarse features.
        upsampler: brings them to the output grid.
        open_store: called with the coarse features, the map's shape (C, Ho, Wo) and a hash of image and weights, gives
            the store. One that holds finished rows already is gone on with.
        output_size: (Ho, Wo); None for the photo's own size.
        on_progress: called with the share done, 0 … 1.

    Raises:
        ValueError: as backbone, upsampler and store do; also if the work cannot fit in this machine's memory.
    """
    size = output_size or (image01.shape[1], image01.shape[2])
    coarse = backbone.extract(image01[None])
    colors = PCAColors.fit(coarse.features)  # first: what is wrong with the features shows before the long work
    most = max(
        upsampler.stream_memory(coarse.image_size, size, coarse.grid),
        min(upsampler.memory(coarse.image_size, size), MEMORY_BUDGET),
    )
    # Besides: the normalised image, and a band with its copies on the way to disk.
    needed = most + image01.numel() * image01.element_size() + 3 * BAND_BYTES
    check_memory(size, needed, image01.device)
    store = open_store(coarse, (coarse.features.shape[1], *size), fingerprint(image01, upsampler))
    resumed_at = store.done
    bands = upsampler.iter_rows(
        normalize(image01[None]),
        coarse.features.to(store.dtype),
        size,
        store.band_rows,
        start=resumed_at,
        state=store.state,
        on_progress=on_progress,
    )
    for rows, features in bands:
        store.write(rows, features[0].cpu())
    store.finish()
    return Streamed(coarse, store, resumed_at, colors)


def preview(store: BandStore, colors: PCAColors, longest: int = 2048) -> Tensor:
    """PCA colours of a complete store, read band by band and averaged over whole pixels.

    Args:
        store: complete.
        colors: basis.
        longest: most pixels of the picture's longer side.

    Returns:
        (3, rows, columns), not clamped.
    """
    _, height, width = store.shape
    factor = -(-max(height, width) // longest)
    step = max(1, store.band_rows // factor) * factor
    parts = [
        F.avg_pool2d(colors.project(store.read(slice(top, min(top + step, height)))[None]), factor, ceil_mode=True)
        for top in range(0, height, step)
    ]
    return torch.cat(parts, dim=2)[0]


def fingerprint(image01: Tensor, upsampler: Upsampler) -> str:
    """Hash of an image's values, an upsampler's configuration and its parameters."""
    digest = hashlib.sha256(repr(sorted((upsampler.config or {}).items())).encode())
    add_tensors(digest, {"image": image01, **upsampler.state_dict()}.items())
    return digest.hexdigest()


def check_memory(output_size: tuple[int, int], needed: int, device: torch.device) -> None:
    """Refuse an output that needs more memory than is free, where the system tells how much that is.

    Args:
        output_size: (Ho, Wo), for the message.
        needed: bytes, on the device.
        device: where.

    Raises:
        ValueError: says how much it would need and what to do.
    """
    free = torch.cuda.mem_get_info(device)[0] / 2**20 if device.type == "cuda" else available_mib()
    if free is not None and needed / 2**20 > free:
        raise ValueError(
            f"an output of {output_size[0]}x{output_size[1]} needs {needed / 2**30:.1f} GiB, "
            f"{free / 2**10:.1f} GiB are free: choose a smaller output size"
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
