"""`naf upsample`: photos in, sharp features and their PCA pictures out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from naf.backbones.base import Backbone, FeatureMap
from naf.benchmark.measure import Usage, measure
from naf.cli import inputs, options
from naf.cli.console import console, fail, progress
from naf.cli.load import fit_to_photo, load_backbone, load_upsampler
from naf.data.band_store import BandStore
from naf.data.features import write_features, write_picture
from naf.data.image import read_image
from naf.data.store import store_class
from naf.feature_record import metadata
from naf.pipeline import Streamed, Upsampled, preview, stream_photo, upsample_photo
from naf.upsamplers.base import Upsampler
from naf.visualization.pca import to_image

log = logging.getLogger("naf")


class Save(StrEnum):
    """Format of the features."""

    safetensors = "safetensors"
    npy = "npy"
    none = "none"


def upsample(
    photos: Annotated[list[str], typer.Argument(help="Photos, folders of photos, or globs.", show_default=False)],
    output: options.Output = Path("out"),
    backbone: options.BackboneName = "auto",
    upsampler: Annotated[str, typer.Option("--upsampler", "-u", help="Name of the method; see `naf models`.")] = "naf",
    weights: options.Weights = "auto",
    neighborhood: options.NeighborhoodRule = None,
    size: options.Size = None,
    scale: options.Scale = None,
    save: Annotated[
        Save, typer.Option(help="Format of the features; none keeps the PCA picture only.")
    ] = Save.safetensors,
    stream: options.Stream = None,
    max_side: options.MaxSide = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    fit_steps: options.FitSteps = 1200,
    overwrite: options.Overwrite = False,
) -> None:
    """Upsample the features of photos.

    Writes NAME.safetensors (or .npy) with the features, (C, H, W), and NAME.png with their PCA colours. Photos whose
    results are there already are skipped, so a run that was stopped can be started again. A photo that fails does
    not stop the others; the exit status is then 1.

    With --stream the features go band by band to one place instead, and memory stays bounded at any size. A run that
    was stopped goes on within a photo. NAME.png is then reduced to at most 2048 pixels a side.
    """
    paths = inputs.find_photos(photos)
    names = inputs.name_results(paths)
    place, kind = inputs.choose_device(device), inputs.choose_dtype(dtype)
    inputs.output_size((1, 1), size, scale)
    if stream is not None:
        if not store_class(stream, kind).holds_many and len(paths) > 1:
            raise ValueError(f"--stream {stream} holds one photo, {len(paths)} are given: take a .zarr store")
    elif save is Save.npy and dtype == "bfloat16":
        raise ValueError("--save npy cannot hold --dtype bfloat16: take float16, float32 or --save safetensors")
    folder = inputs.output_folder(output)
    network = load_backbone(backbone, place, kind, max_side)
    method = load_upsampler(upsampler, weights, neighborhood, place, network)
    run = _Run(network, method, upsampler, kind, folder, save, stream, overwrite)
    failed = 0
    with progress() as bar:
        task = bar.add_task("", total=len(paths))
        for number, path in enumerate(paths):
            bar.update(task, description=path.name)
            there = run.results(names[path])
            kept = [] if overwrite else [target for target in there if there[target]]
            missing = [target for target in there if target not in kept]
            if not missing:
                console.print(f"{path}: skipped, {kept[0]} exists (--overwrite replaces it)", markup=False)
                bar.update(task, completed=number + 1)
                continue
            try:
                image = read_image(path).to(place)
                goal = inputs.output_size((image.shape[1], image.shape[2]), size, scale)
                fit_to_photo(method, image, network, fit_steps, folder / f"{names[path]}_{upsampler}.fit", bar)
                make = run.to_files if stream is None else run.to_store
                result, usage = make(
                    image,
                    goal,
                    path.name,
                    names[path],
                    missing,
                    lambda share, done=number: bar.update(task, completed=done + share),  # type: ignore[misc]
                )
            except Exception as error:  # whatever is wrong with this photo, the next may be fine
                failed += 1
                log.debug("%s", path, exc_info=True)
                fail(str(error) if str(path) in str(error) else f"{path}: {error}")
            else:
                resumed = (
                    f" from row {result.resumed_at} on" if isinstance(result, Streamed) and result.resumed_at else ""
                )
                console.print(
                    f"{path}: {describe(result, goal)}{resumed}, {usage.seconds:.2f} s, peak {usage.peak_mib:.0f} MiB "
                    f"→ {', '.join(map(str, missing))}{f' ({kept[0]} was there and is kept)' if kept else ''}",
                    markup=False,
                )
            bar.update(task, completed=number + 1)
    if failed:
        fail(f"{failed} of {len(paths)} photos failed")
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Run:
    """What all photos of a call have in common."""

    backbone: Backbone
    method: Upsampler
    method_name: str
    dtype: torch.dtype
    folder: Path
    save: Save
    stream: Path | None
    overwrite: bool

    def results(self, name: str) -> dict[Path, bool]:
        """Where the results of a photo go, features first, and whether they are there."""
        picture = {self._picture(name): self._picture(name).exists()}
        if self.stream is not None:
            return {self.stream: store_class(self.stream, self.dtype).has_complete(self.stream, name), **picture}
        if self.save is Save.none:
            return picture
        stored = self.folder / f"{name}.{self.save.value}"
        return {stored: stored.exists(), **picture}

    def to_files(
        self,
        image: Tensor,
        goal: tuple[int, int],
        photo: str,
        name: str,
        missing: Collection[Path],
        on_progress: Callable[[float], object],
    ) -> tuple[Upsampled, Usage]:
        """Make the full map in memory and write what is missing."""
        with measure(image.device) as usage:
            result = upsample_photo(
                image,
                self.backbone,
                self.method,
                goal,
                dtype=self.dtype,
                keep_features=self.save is not Save.none,
                on_progress=on_progress,
            )
        stored = self.folder / f"{name}.{self.save.value}"
        if stored in missing and result.features is not None:
            about = metadata(photo, result.coarse, self.backbone, self.method, self.method_name)
            write_features(stored, result.features, about)
        if self._picture(name) in missing:
            write_picture(self._picture(name), to_image(result.picture))
        return result, usage

    def to_store(
        self,
        image: Tensor,
        goal: tuple[int, int],
        photo: str,
        name: str,
        missing: Collection[Path],
        on_progress: Callable[[float], object],
    ) -> tuple[Streamed, Usage]:
        """Write the map band by band, then its picture from there."""
        path = self.stream
        assert path is not None

        def open_store(coarse: FeatureMap, shape: tuple[int, int, int], settings: str) -> BandStore:
            about = metadata(photo, coarse, self.backbone, self.method, self.method_name)
            kind = store_class(path, self.dtype)
            return kind(path, name, shape, self.dtype, about, settings, overwrite=self.overwrite)

        with measure(image.device) as usage:
            result = stream_photo(image, self.backbone, self.method, open_store, goal, on_progress=on_progress)
        if self._picture(name) in missing:
            write_picture(self._picture(name), to_image(preview(result.store, result.colors)))
        return result, usage

    def _picture(self, name: str) -> Path:
        return self.folder / f"{name}.png"


def describe(result: Upsampled | Streamed, output_size: tuple[int, int]) -> str:
    """Sizes and ratio in words."""
    (h, w), (ho, wo) = result.coarse.grid, output_size
    channels = result.coarse.features.shape[1]
    rows, cols = ho / h, wo / w
    ratio = f"x{rows:.4g}" if f"{rows:.4g}" == f"{cols:.4g}" else f"x{rows:.4g}, x{cols:.4g}"
    return f"{channels} channels, {h}x{w} → {ho}x{wo} ({ratio})"
