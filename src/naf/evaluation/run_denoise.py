"""Restorers on images with noise, over kinds and levels, as configured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import Tensor

from naf.benchmark.measure import measure
from naf.data.features import write_picture
from naf.evaluation.denoise_partial import Measured, Partial
from naf.evaluation.denoise_protocol import DenoiseProtocol, ImageNoise, noises
from naf.evaluation.denoisers import Denoiser, DenoiserCandidate, parse_all
from naf.evaluation.photos import PhotoSet, bring
from naf.evaluation.prepare import check_folder, device_of
from naf.evaluation.progress import told, whole_time
from naf.evaluation.protocol import deviations, protocol_from
from naf.evaluation.record import EvaluationRecord
from naf.evaluation.results import Results, Run
from naf.evaluation.subset import Subset
from naf.restoration.metrics import RestorationMetrics
from naf.visualization.pca import to_image
from naf.weights import WeightsError

SANITY_IMAGES = 2
_FAILURES = (WeightsError, ValueError, TypeError, OSError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class _Setup:
    """What all runs of a command have in common.

    Attributes:
        photos: those that are scored.
        protocol: settings.
        autocast: whether float16 is used where PyTorch deems it safe: asked for, and on CUDA.
        plain: the chosen protocol's own settings.
        pictures: images that are written beside each record.
        memory_budget: bytes that a network may take.
        results: where records go.
        console: where progress goes.
        note: of the user, for the records.
    """

    photos: Subset[PhotoSet]
    protocol: DenoiseProtocol
    autocast: bool
    plain: Mapping[str, Any]
    pictures: int
    memory_budget: int
    results: Results
    console: Console
    note: str

    @property
    def settings(self) -> dict[str, Any]:
        """Of the protocol, as they are kept."""
        return {**self.protocol.settings(), "autocast": self.autocast}


class _Example(NamedTuple):
    name: str
    clean: Tensor
    noisy: Tensor
    level: float


def run_denoise(values: Mapping[str, Any], console: Console) -> tuple[list[EvaluationRecord], int]:
    """Records of all runs, one for each restorer and level of noise; those that were there already too.

    Args:
        values: from :func:`naf.evaluation.config.load`.
        console: where progress goes.

    Returns:
        The records, and how many runs failed. A failure is told and does not stop the others.

    Raises:
        ValueError: if the configuration does not hold together, or there are no images.
    """
    protocol, data, limit = protocol_from(DenoiseProtocol, values["protocol"]), values["dataset"], values["limit"]
    asked = noises(values["noise"], values["seed"])
    candidates = parse_all(values["restorer"])
    photos, folder = PhotoSet(data["key"], data["root"]), Path(values["folder"])
    whole = len(Subset(photos, limit))
    if values["sanity"]:
        limit, folder = min(SANITY_IMAGES, whole), folder / "sanity"
    check_folder(folder)
    device = device_of(values["device"])
    setup = _Setup(
        photos=Subset(photos, limit),
        protocol=protocol,
        autocast=protocol.autocast and device.type == "cuda",
        plain=values["plain_protocol"],
        pictures=values["pictures"],
        memory_budget=values["memory_budget"] << 20,
        results=Results(folder / str(data["key"]), device),
        console=console,
        note=values["note"],
    )
    records, failures = [], 0
    for candidate in candidates:
        found, failed = _run_all(setup, candidate, asked)
        records += found
        failures += failed
    if values["sanity"] and records and not failures:  # of runs that failed nobody knows how long they take
        seconds = sum(record.seconds for record in records) * whole / len(setup.photos)
        console.print(whole_time(seconds), markup=False)
    return records, failures


def _run_all(
    setup: _Setup, candidate: DenoiserCandidate, asked: list[ImageNoise]
) -> tuple[list[EvaluationRecord], int]:
    """Records of one method, and how many of its runs failed."""
    try:
        denoiser = candidate.make(asked[0].kind, setup.results.device, setup.memory_budget)
    except _FAILURES as error:
        setup.console.print(f"failed: {asked[0].kind}, {candidate.label}: {error}", markup=False)
        return [], len(asked)
    records, failures = [], 0
    for noise in asked:
        try:
            records.append(_run(setup, candidate, denoiser, noise))
        except _FAILURES as error:
            failures += 1
            setup.console.print(f"failed: {noise}, {candidate.label}: {error}", markup=False)
    return records, failures


def _run(setup: _Setup, candidate: DenoiserCandidate, denoiser: Denoiser, noise: ImageNoise) -> EvaluationRecord:
    run = Run("", candidate.label, noise.seed, str(noise), _decisive(setup, candidate, denoiser, noise))
    if (record := setup.results.find(run)) is not None:
        setup.console.print(f"{run}: there already", markup=False)
    else:
        record = _measure(setup, run, denoiser, noise)
    _write_pictures(setup, run, denoiser, noise)
    return record


def _measure(setup: _Setup, run: Run, denoiser: Denoiser, noise: ImageNoise) -> EvaluationRecord:
    done = Partial(setup.results.path(run, ".part.jsonl"), setup.photos.names)
    before = sum(batch.seconds for batch in done.batches)
    with (
        measure(setup.results.device) as usage,
        told(setup.console, f"{run}: images", len(setup.photos) - len(done)) as on_step,
    ):
        for batch in _batches(setup, noise, len(done)):
            done.add(_measured(setup, batch, denoiser, noise))
            for _ in batch:
                on_step()
    record = _record(setup, run, denoiser, noise, done, before + usage.seconds, usage.peak_mib)
    words = ", ".join(f"{key} {record.metrics[key]:.2f}" for key in ("psnr", "ssim"))
    setup.console.print(f"{run}: {words} ({record.seconds:.0f} s)", markup=False)
    written = setup.results.write(run, record)
    done.path.unlink(missing_ok=True)
    return written


def _batches(setup: _Setup, noise: ImageNoise, first: int) -> Iterator[list[_Example]]:
    """Images from one on, so many of one size at a time."""
    waiting: list[_Example] = []
    for index in range(first, len(setup.photos)):
        example = _example(setup, noise, index)
        is_full = len(waiting) == setup.protocol.batch_size
        if waiting and (is_full or example.clean.shape != waiting[0].clean.shape):
            yield waiting
            waiting = []
        waiting.append(example)
    if waiting:
        yield waiting


def _example(setup: _Setup, noise: ImageNoise, index: int) -> _Example:
    """An image; its noise goes by its place in the whole set, whatever is taken of it."""
    photos = setup.photos
    image = photos.read_image(index)
    try:
        clean = bring(image, setup.protocol.size, setup.protocol.crop)
    except ValueError as error:
        (path,) = photos.whole.files(photos.indices[index])
        raise ValueError(f"{path}: {error}") from None
    noisy, level = noise(clean, photos.indices[index])
    return _Example(photos.names[index], clean, noisy, level)


def _restore(setup: _Setup, example: _Example, denoiser: Denoiser, noise: ImageNoise) -> Tensor:
    with torch.autocast(setup.results.device.type, torch.float16, enabled=setup.autocast):
        return denoiser(example.noisy, noise, example.level)


def _measured(setup: _Setup, batch: list[_Example], denoiser: Denoiser, noise: ImageNoise) -> Measured:
    begun = time.monotonic()
    restored = torch.cat([_restore(setup, example, denoiser, noise) for example in batch])
    seconds = time.monotonic() - begun
    metrics = RestorationMetrics()
    metrics.add(restored, torch.cat([example.clean for example in batch]))
    for example, value in zip(batch, metrics.values["psnr"], strict=True):
        if not value < float("inf"):  # nor is there a mean of NaN
            raise ValueError(f"{example.name}: PSNR is {value}, expected a finite number: more noise, or sound weights")
    (psnr_released,), (ssim_released,) = metrics.values["psnr_released"], metrics.values["ssim_released"]
    return Measured(
        images=[example.name for example in batch],
        levels=[example.level for example in batch],
        psnr=metrics.values["psnr"],
        ssim=metrics.values["ssim"],
        psnr_released=psnr_released,
        ssim_released=ssim_released,
        seconds=round(seconds, 4),
    )


def _record(
    setup: _Setup, run: Run, denoiser: Denoiser, noise: ImageNoise, done: Partial, seconds: float, peak_mib: float
) -> EvaluationRecord:
    photos, settings = setup.photos, setup.settings
    is_cut = setup.protocol.autocast and not setup.autocast
    images = {
        name: {"level": round(level, 4), "psnr": round(psnr, 4), "ssim": round(100 * ssim, 4)}
        for batch in done.batches
        for name, level, psnr, ssim in zip(batch.images, batch.levels, batch.psnr, batch.ssim, strict=True)
    }
    details: dict[str, Any] = {
        "parameters": denoiser.parameters,
        "seconds_per_image": round(sum(batch.seconds for batch in done.batches) / len(done), 4),
        "images": images,
    }
    if fitted := denoiser.settings(noise):
        details["fitted"] = fitted
    notes = (setup.note, photos.note, "float32: autocast to float16 is for CUDA only" if is_cut else "")
    return EvaluationRecord(
        task="denoise",
        protocol=setup.protocol.name,
        deviations=deviations(settings, setup.plain),
        dataset=photos.whole.key,
        images={"test": len(photos)},
        upsampler=run.upsampler,
        source=denoiser.source,
        checkpoint=denoiser.checkpoint,
        seed=run.seed,
        variant=run.variant,
        settings={**settings, "noise": noise.kind, "level": _plain(noise)},
        metrics={key: round(value, 4) for key, value in done.metrics().items()},
        details=details,
        seconds=round(seconds, 1),
        peak_mib=round(peak_mib, 1),
        note="; ".join(part for part in notes if part),
    )


def _write_pictures(setup: _Setup, run: Run, denoiser: Denoiser, noise: ImageNoise) -> None:
    """The first images in a folder beside the record: clean, noisy and restored; those that are there stay."""
    folder = setup.results.path(run, "")
    for index in range(min(setup.pictures, len(setup.photos))):
        stem = f"{index:04d}-{PurePosixPath(setup.photos.names[index]).stem}"
        paths = {key: folder / f"{stem}-{key}.png" for key in ("clean", "noisy", "restored")}
        if all(path.is_file() for path in paths.values()):
            continue
        example = _example(setup, noise, index)
        restored = _restore(setup, example, denoiser, noise)
        folder.mkdir(parents=True, exist_ok=True)
        for path, image in zip(paths.values(), (example.clean, example.noisy, restored), strict=True):
            write_picture(path, to_image(image[0]))


def _plain(noise: ImageNoise) -> Any:
    return list(noise.level) if isinstance(noise.level, tuple) else noise.level


def _decisive(setup: _Setup, candidate: DenoiserCandidate, denoiser: Denoiser, noise: ImageNoise) -> dict[str, Any]:
    return {
        "task": "denoise",
        "dataset": setup.photos.whole.key,
        "data": setup.photos.fingerprint(),
        "protocol": setup.settings,
        "name": setup.protocol.name,
        "noise": [noise.kind, _plain(noise)],
        "restorer": [candidate.name, sorted(candidate.options.items())],
        "weights": denoiser.checkpoint,
        "fitted": denoiser.settings(noise),
    }
