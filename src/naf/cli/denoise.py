"""`naf denoise`: photos in, the same photos without their noise out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from naf import restoration
from naf import weights as weight_files
from naf.benchmark.measure import measure
from naf.cli import inputs, options
from naf.cli.console import INTERRUPTED, console, errors, fail, progress
from naf.data.image import EXTENSIONS
from naf.data.photo_file import Photo, check_suffix, check_target, read_photo, write_photo
from naf.restoration import Restorer
from naf.restoration.metrics import psnr
from naf.restoration.noise import NOISES, Noise, estimate_level
from naf.restoration.registry import entry
from naf.upsamplers.base import MEMORY_BUDGET

log = logging.getLogger("naf")

_FEWEST = 8  # pixels along a side, for an estimate of the level
_FAINT = 0.04  # Gaussian noise of a lower level was measured to do less harm than its removal


class NoiseName(StrEnum):
    """Kinds of noise."""

    gaussian = "gaussian"
    salt_and_pepper = "salt-and-pepper"


def _read_noise(word: str) -> NoiseName:
    """Also `salt_and_pepper`, as `naf train` and `naf eval` write it."""
    try:
        return NoiseName(word.replace("_", "-"))
    except ValueError:
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(NoiseName)}.") from None


def denoise(
    photos: Annotated[list[str], typer.Argument(help="Photos, folders of photos, or globs.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the results, made if need be; or, for one photo, the result's name, ending in .png, .tif "
            "or .jpg.",
        ),
    ] = Path("out"),
    noise: Annotated[
        NoiseName,
        typer.Option(
            parser=_read_noise,
            metavar=f"[{'|'.join(NoiseName)}]",
            help="Kind of noise: chooses the weights, and what --add-noise adds.",
        ),
    ] = NoiseName.gaussian,
    restorer: Annotated[
        str, typer.Option("--restorer", "-r", help="Name of the method: " + ", ".join(restoration.list_restorers()))
    ] = "naf",
    weights: Annotated[
        str,
        typer.Option(
            help="auto (those that the package carries for --noise), embedded:NOISE, a checkpoint file or "
            "hf:USER/REPOSITORY."
        ),
    ] = "auto",
    memory: Annotated[
        int,
        typer.Option(
            min=0,
            help="MiB that the network may take beside the photo, about. Larger photos are restored in parts, with the "
            "same result.",
        ),
    ] = MEMORY_BUDGET >> 20,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Let a method that must see the whole photo at once (restormer) work in parts too: another result.",
        ),
    ] = False,
    add_noise: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="To try it out on clean photos: add noise of this level first (gaussian: standard deviation, values "
            "being 0 to 1; salt-and-pepper: share of the values), clipped as files are, write NAME_noisy too and print "
            "PSNR.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of --add-noise; each photo begins with it anew.")] = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
) -> None:
    """Remove the noise of photos.

    Writes NAME_denoised.png, or .tif for a TIFF: 8 or 16 bit, grey or colour as the photo is, with its alpha (bit for
    bit), colour profile and Exif. Photos whose results are there already are skipped. A photo that fails does not stop
    the others; the exit status is then 1.

    The package's weights are for noise of level 0.1 to 0.5. A photo with little noise loses fine detail: you are told
    where its level seems to be below 0.04.
    """
    place = inputs.choose_device(device)
    added = None if add_noise is None else _noise(noise, add_noise)
    paths = inputs.find_photos(photos)
    targets = _targets(paths, output, with_noisy=added is not None)
    method = _load(restorer, weights, noise, place)
    warns_of_faint = noise is NoiseName.gaussian and added is None and method.weights_source.startswith("embedded")
    run = _Run(method, place, memory << 20, approximate, added, seed, warns_of_faint)
    failed = done = 0
    with progress() as bar:
        task = bar.add_task("", total=len(targets))
        try:
            for number, (path, target) in enumerate(targets.items()):
                bar.update(task, description=path.name)
                there = [] if overwrite else [each for each in target.files if each.exists()]
                if there:
                    console.print(f"{path}: skipped, {there[0]} exists (--overwrite replaces it)", markup=False)
                else:
                    try:
                        said = run.restore(
                            path,
                            target,
                            lambda share, before=number: bar.update(task, completed=before + share),  # type: ignore[misc]
                        )
                    except Exception as error:  # whatever is wrong with this photo, the next may be fine
                        failed += 1
                        log.debug("%s", path, exc_info=True)
                        fail(str(error) if str(path) in str(error) else f"{path}: {error}")
                    else:
                        console.print(f"{path}: {said}", markup=False)
                done = number + 1
                bar.update(task, completed=done)
        except KeyboardInterrupt:
            bar.stop()
            errors.print(f"stopped after {done} of {len(targets)} photos: the same command goes on there", markup=False)
            raise typer.Exit(INTERRUPTED) from None
    if failed:
        fail(f"{failed} of {len(targets)} photos failed")
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Target:
    """Where the results of a photo go."""

    denoised: Path
    noisy: Path | None

    @property
    def files(self) -> list[Path]:
        return [self.denoised] if self.noisy is None else [self.denoised, self.noisy]


@dataclass(frozen=True)
class _Run:
    """What all photos of a call have in common."""

    method: Restorer
    device: torch.device
    memory_budget: int
    approximate: bool
    added: Noise | None
    seed: int
    warns_of_faint: bool

    def restore(self, path: Path, target: _Target, on_progress: Callable[[float], object]) -> str:
        """Read, restore and write one photo; what was done, in words."""
        photo = read_photo(path)
        for file in target.files:
            check_target(file, photo)
        noisy = photo if self.added is None else self._add_noise(photo, self.added)
        with measure(self.device) as usage:
            restored = self.method.restore(
                noisy.image[None].to(self.device),
                memory_budget=self.memory_budget,
                approximate=self.approximate,
                on_progress=on_progress,
            )[0]
        result = photo.with_image(restored)
        if target.noisy is not None:
            write_photo(target.noisy, noisy)
        write_photo(target.denoised, result)
        said = [_describe(photo), f"{usage.seconds:.2f} s", f"peak {usage.peak_mib:.0f} MiB"]
        if self.added is not None:
            before, after = (psnr(each.image[None], photo.image[None]).item() for each in (noisy, result))
            said.append(f"PSNR {before:.2f} → {after:.2f} dB")
        if self.warns_of_faint and min(photo.image.shape[1:]) >= _FEWEST:
            level = estimate_level(photo.image)
            if level < _FAINT:
                said.append(f"its noise is only about {level:.2g}: fine detail may have gone, too")
        return f"{', '.join(said)} → {', '.join(map(str, target.files))}"

    def _add_noise(self, photo: Photo, noise: Noise) -> Photo:
        """The photo as a file would hold it: clipped, rounded, and grey where it was."""
        channels = photo.image[: photo.colour.shape[2]]
        drawn = noise(channels, torch.Generator().manual_seed(self.seed))
        return photo.with_image(drawn.expand(3, -1, -1))


def _noise(kind: NoiseName, level: float) -> Noise:
    try:
        return NOISES[kind.value](level)
    except ValueError as error:
        raise ValueError(f"--add-noise: {error}") from error


def _targets(paths: list[Path], output: Path, *, with_noisy: bool) -> dict[Path, _Target]:
    """Where results go, by photo; photos that are the results of others are left out.

    Raises:
        ValueError: for a file as output of several photos, one that is the photo itself, or another format.
        OSError: if the folder cannot be written to.
    """
    if output.suffix.lower() in EXTENSIONS and not output.is_dir():
        check_suffix(output)
        if len(paths) > 1:
            raise ValueError(f"--output is the file {output}, but {len(paths)} photos are given: name a folder")
        noisy = output.with_name(f"{output.stem}_noisy{output.suffix}")
        target = _Target(output, noisy if with_noisy else None)
        for file in target.files:
            if file.exists() and paths[0].exists() and file.samefile(paths[0]):
                raise ValueError(f"--output is {output}, but {file} is the photo itself: name another file")
        inputs.output_folder(output.parent)
        return {paths[0]: target}
    folder = inputs.output_folder(output)
    targets = {}
    for path, name in inputs.name_results(paths).items():
        suffix = path.suffix if path.suffix.lower() in (".tif", ".tiff") else ".png"
        noisy = folder / f"{name}_noisy{suffix}"
        targets[path] = _Target(folder / f"{name}_denoised{suffix}", noisy if with_noisy else None)
    results = {each.resolve() for target in targets.values() for each in target.files}
    return {path: target for path, target in targets.items() if path.resolve() not in results}


def _load(name: str, weights: str, noise: NoiseName, device: torch.device) -> Restorer:
    """The restorer, with trained weights; prints what was taken.

    Raises:
        ValueError: for an unknown restorer, or where there are no weights.
        WeightsError: if they are not to be had, or are those of another method.
    """
    record_name = entry(name).record_name
    if weights in ("auto", "embedded"):
        weights = f"embedded:{noise.value}"
        if weight_files.embedded_path(f"{record_name}-{noise.value}") is None:
            raise ValueError(
                f"the package carries no weights of {name!r} for {noise.value} noise: give some with --weights FILE or "
                f"--weights hf:USER/REPOSITORY (`naf train experiment=denoise_{name}` makes them)"
            )
    if weights == "none":
        raise ValueError("--weights is none, but an untrained network spoils photos: give trained weights")
    method = restoration.create(name, weights=weights)
    trained_on = "" if method.record is None else method.record.about.get("noise", "")
    words = f", trained on {trained_on}" if trained_on else ""
    console.print(f"restorer   {name}, weights: {method.weights_source}{words}", markup=False)
    return method.to(device)


def _describe(photo: Photo) -> str:
    height, width = photo.samples.shape[:2]
    kind = "grey" if photo.is_grey else "colour"
    return f"{height}x{width}, {photo.depth}-bit {kind}{' with alpha' if photo.has_alpha else ''}"
