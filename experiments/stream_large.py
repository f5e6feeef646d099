"""The largest case: an image of 8192 x 8192 pixels and 32 feature channels, to full resolution, on the CPU.

A photo, mirrored side by side, and its 16 x 16 patches projected to 32 channels; NAF with the embedded weights; a
float16 zarr store of 4 GiB. Prints time and peak memory. Stopped (Ctrl-C or kill), it goes on when started again.

    python experiments/stream_large.py --side 8192 --output out/large.zarr
"""

from __future__ import annotations

import argparse
from pathlib import Path

import skimage.data
import torch
from rich.progress import Progress
from torch import Tensor

import naf
from naf.benchmark.measure import measure
from naf.data.image import read_image
from naf.data.store import store_class
from naf.pipeline import fingerprint

STRIDE, CHANNELS = 16, 32


def mirrored_photo(side: int) -> Tensor:
    """(1, 3, side, side), ImageNet-normalised: one float copy, tile by tile."""
    photo = naf.normalize(read_image(Path(skimage.data.__file__).parent / "astronaut.png")[None])
    image = torch.empty(1, 3, side, side)
    size = photo.shape[2]
    for row in range(0, side, size):
        for col in range(0, side, size):
            flips = [2 + axis for axis, start in enumerate((row, col)) if start // size % 2]
            place = image[:, :, row : row + size, col : col + size]
            place.copy_(photo.flip(flips)[:, :, : place.shape[2], : place.shape[3]])
    return image


def patch_features(image: Tensor) -> Tensor:
    """(1, CHANNELS, H / STRIDE, W / STRIDE), float16: patches projected at random, standardised."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(CHANNELS, 3, STRIDE, STRIDE, generator=generator)
    bands = [torch.nn.functional.conv2d(band, weight, stride=STRIDE) for band in image.split(32 * STRIDE, dim=2)]
    features = torch.cat(bands, dim=2)
    deviation, mean = torch.std_mean(features, dim=(2, 3), keepdim=True)
    return ((features - mean) / deviation).half()


def main() -> None:
    """Make or go on with the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8192, help="rows and columns of image and output")
    parser.add_argument("--output", type=Path, default=Path("out/large.zarr"), help=".zarr or .safetensors")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    side, path = arguments.side, arguments.output
    upsampler = naf.create("naf").requires_grad_(False)
    with measure() as usage:
        image = mirrored_photo(side)
        features = patch_features(image)
        kind, settings = store_class(path, features.dtype), fingerprint(image, upsampler)
        store = kind(path, f"side{side}", (CHANNELS, side, side), features.dtype, {"photo": "astronaut"}, settings)
        resumed_at = store.done
        with Progress() as bar:
            task = bar.add_task(f"from row {resumed_at}", total=1.0)
            bands = upsampler.iter_rows(
                image,
                features,
                (side, side),
                store.band_rows,
                start=resumed_at,
                state=store.state,
                memory_budget=0,
                on_progress=lambda share: bar.update(task, completed=share),
            )
            for rows, band in bands:
                store.write(rows, band[0])
        store.finish()
    needed = upsampler.stream_memory((side, side), (side, side), (features.shape[2], features.shape[3]))
    print(f"{side}x{side}x{CHANNELS} float16, {store.shape[1] - resumed_at} rows made")
    print(
        f"time {usage.seconds:.1f} s ({usage.seconds / side**2 * 1e6:.2f} s a megapixel, {arguments.threads} threads)"
    )
    print(f"peak memory {usage.peak_mib:.0f} MiB, {usage.above_mib:.0f} MiB above the start")
    print(
        f"of that: image {image.numel() * 4 / 2**20:.0f} MiB, queries and encoder bands {needed / 2**20:.0f} MiB stated"
    )


if __name__ == "__main__":
    main()
