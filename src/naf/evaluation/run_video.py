"""Label propagation through videos with upsampled features, over upsamplers and backbones, as configured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from naf import registry
from naf.benchmark.measure import measure
from naf.data import davis
from naf.data.atomic import replace_file
from naf.data.davis import DavisSet, Sequence
from naf.evaluation.candidates import Candidate, checkpoint_of
from naf.evaluation.davis_metrics import ObjectScore, summarize
from naf.evaluation.davis_results import has_results, score_results, write_results
from naf.evaluation.davis_sequence import propagate_sequence
from naf.evaluation.features import Features
from naf.evaluation.prepare import prepare
from naf.evaluation.progress import told
from naf.evaluation.protocol import deviations, protocol_from
from naf.evaluation.record import EvaluationRecord
from naf.evaluation.results import Results, Run
from naf.evaluation.video_frames import VideoProtocol, frame_size, label_grid, prepare_frame, prepare_guidance
from naf.upsamplers.base import Upsampler
from naf.weights import WeightsError

_FEWEST = 3  # frames: the first and last are not scored


@dataclass(frozen=True)
class _Setup:
    """What all runs of a command have in common.

    Attributes:
        videos: those that are scored.
        chosen: which these are, for records.
        protocol: settings.
        plain: the chosen protocol's own.
        results: where records and masks go.
        console: where progress goes.
        note: of the user, for the records.
    """

    videos: DavisSet
    chosen: Mapping[str, Any]
    protocol: VideoProtocol
    plain: Mapping[str, Any]
    results: Results
    console: Console
    note: str


def run_video(values: Mapping[str, Any], console: Console) -> tuple[list[EvaluationRecord], int]:
    """Records of all runs, one for each backbone and upsampler; those that were there already too.

    The masks are beside the records, in DAVIS's layout: `<upsampler>-<hash>/<sequence>/00000.png`. A run that was
    stopped goes on with the videos that are not there.

    Args:
        values: from :func:`naf.evaluation.config.load`.
        console: where progress goes.

    Returns:
        The records, and how many runs failed. A failure is told and does not stop the others.

    Raises:
        ValueError: if the configuration does not hold together, or the data set is incomplete.
    """
    protocol, data = protocol_from(VideoProtocol, values["protocol"]), values["dataset"]
    videos, names = _videos(data)
    if values["sanity"]:
        first = videos.sequences[0]
        short = replace(first, frames=first.frames[:_FEWEST], masks=first.masks[:_FEWEST])
        videos = replace(videos, sequences=[short], note=f"sanity: {_FEWEST} frames of {first.name}")
        values = {**values, "folder": str(Path(values["folder"]) / "sanity")}
    candidates, backbones, results = prepare(values)
    chosen = {"split": data["split"], "resolution": data["resolution"], "sequences": names}
    setup = _Setup(videos, chosen, protocol, values["plain_protocol"], results, console, values["note"])
    records: list[EvaluationRecord] = []
    failures = 0
    made = backbones()
    for candidate in candidates:
        for label, features in made.items():
            try:
                records.append(_run(setup, label, features, candidate))
            except (WeightsError, ValueError, TypeError, OSError, RuntimeError, MemoryError) as error:
                failures += 1
                console.print(f"failed: {label}, {candidate.label}: {error}", markup=False)
            finally:
                features.flush()
    return records, failures


def _videos(data: Mapping[str, Any]) -> tuple[DavisSet, list[str] | None]:
    """The videos, and the names of those that were asked for."""
    names = [data["sequences"]] if isinstance(data["sequences"], str) else data["sequences"]
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"dataset.sequences is {names!r}, expected names, [dog,judo], or null for all")
    videos = davis.create(data["key"], data["root"], data["split"], names, data["resolution"])
    for sequence in videos.sequences:
        if len(sequence) < _FEWEST:
            folder = sequence.frames[0].parent
            raise ValueError(f"{folder}: holds {len(sequence)} frames, expected at least {_FEWEST}")
    return videos, None if names is None else [sequence.name for sequence in videos.sequences]


def _run(setup: _Setup, label: str, features: Features, candidate: Candidate) -> EvaluationRecord:
    if registry.entry(candidate.name).needs_backbone:
        raise ValueError(
            f"{candidate.name} runs its backbone on the image that guides, which has as many pixels here as there are "
            "labels: expected a method that upsamples features"
        )
    upsampler = candidate.make(features.backbone, label)
    run = Run(label, candidate.label, None, "", _decisive(setup, features, candidate, upsampler))
    if (record := setup.results.find(run)) is not None:
        setup.console.print(f"{run}: there already", markup=False)
        return record
    folder = setup.results.path(run, "")
    with measure(features.device) as usage:
        seconds = _propagate(setup, run, features, upsampler, folder)
        begun = time.monotonic()
        scores = _score(setup, run, folder)
        scoring = time.monotonic() - begun
    return _write(setup, run, features, upsampler, scores, seconds, scoring, usage.peak_mib)


def _propagate(setup: _Setup, run: Run, features: Features, upsampler: Upsampler, folder: Path) -> dict[str, float]:
    """Make the masks of the videos that are not there yet.

    Returns:
        Seconds by name of the video, of those that were there too.
    """
    times = folder / "seconds.json"
    spent = _read_times(times)
    missing = [one for one in setup.videos.sequences if one.name not in spent or not has_results(folder, one)]
    patch = features.backbone.stride
    with told(setup.console, f"{run}: frames", sum(map(len, missing))) as on_step:
        for sequence in missing:
            begun = time.monotonic()
            features_of = _upsampled(sequence, features, upsampler, setup.protocol, on_step)
            write_results(folder, sequence, propagate_sequence(sequence, features_of, setup.protocol, patch))
            spent[sequence.name] = round(time.monotonic() - begun, 2)
            replace_file(times, partial(Path.write_text, data=json.dumps(spent, indent=2) + "\n"))
    return {sequence.name: spent[sequence.name] for sequence in setup.videos.sequences}


def _upsampled(
    sequence: Sequence,
    features: Features,
    upsampler: Upsampler,
    protocol: VideoProtocol,
    on_step: Callable[[], None],
) -> Callable[[int], Tensor]:
    """What gives the upsampled features (C, h, w) of a frame by its index.

    Raises:
        ValueError: if the backbone does not take frames of this size as they are.
    """
    native = sequence.read_frame(0).size[::-1]
    patch = features.backbone.stride
    size, grid = frame_size(native, protocol, patch), label_grid(native, protocol, patch)
    if (seen := features.backbone.input_size(size)) != size:
        raise ValueError(f"the backbone brings images of {size} to {seen}, expected one that takes them as they are")

    @torch.no_grad()
    def features_of(index: int) -> Tensor:
        image01 = prepare_frame(sequence.read_frame(index), protocol, patch)[None]
        coarse = features.of(image01)
        guidance = prepare_guidance(image01.to(features.device), grid)
        upsampled = upsampler.encode(guidance, grid, coarse.shape[2:]).upsample(coarse)[0]
        on_step()
        return upsampled

    return features_of


def _score(setup: _Setup, run: Run, folder: Path) -> list[ObjectScore]:
    """Of all objects, from the files."""
    scores = []
    with told(setup.console, f"{run}: scoring videos", len(setup.videos.sequences)) as on_step:
        for sequence in setup.videos.sequences:
            scores += score_results(folder, sequence)
            on_step()
    return scores


def _write(
    setup: _Setup,
    run: Run,
    features: Features,
    upsampler: Upsampler,
    scores: list[ObjectScore],
    seconds: dict[str, float],
    scoring: float,
    peak_mib: float,
) -> EvaluationRecord:
    videos, settings, backbone = setup.videos, setup.protocol.settings(), features.backbone
    objects: dict[str, dict[str, dict[str, float]]] = {sequence.name: {} for sequence in videos.sequences}
    for score in scores:
        objects[score.sequence][str(score.index)] = {
            "J": round(100 * score.region.mean, 4),
            "F": round(100 * score.contour.mean, 4),
            "F_repository": round(100 * score.contour_repository.mean, 4),
        }
    record = EvaluationRecord(
        task="video",
        protocol=setup.protocol.name,
        deviations=deviations(settings, setup.plain),
        dataset=videos.key,
        images={key: videos.counts[key] for key in ("sequences", "frames")},
        backbone=run.backbone,
        stride=backbone.stride,
        channels=backbone.channels,
        upsampler=run.upsampler,
        source=upsampler.weights_source if checkpoint_of(upsampler) else "",
        checkpoint=checkpoint_of(upsampler),
        seed=run.seed,
        variant=run.variant,
        settings={**settings, **setup.chosen, "features": str(features.dtype).removeprefix("torch.")},
        metrics={key: round(value, 4) for key, value in summarize(scores).items()},
        details={"objects": objects, "seconds": seconds, "seconds_scoring": round(scoring, 2)},
        seconds=round(sum(seconds.values()) + scoring, 1),
        peak_mib=round(peak_mib, 1),
        note="; ".join(part for part in (setup.note, videos.note) if part),
    )
    words = ", ".join(f"{key} {record.metrics[key]:.2f}" for key in ("JF", "J", "F"))
    setup.console.print(f"{run}: {words} ({record.seconds:.0f} s)", markup=False)
    return setup.results.write(run, record)


def _decisive(setup: _Setup, features: Features, candidate: Candidate, upsampler: Upsampler) -> dict[str, Any]:
    return {
        "task": "video",
        "dataset": setup.videos.key,
        "data": {**setup.chosen, "sequences": [[one.name, len(one)] for one in setup.videos.sequences]},
        "protocol": setup.protocol.settings(),
        "name": setup.protocol.name,
        "backbone": [features.fingerprint, str(features.dtype)],
        "upsampler": [candidate.name, sorted(candidate.options.items())],
        "weights": checkpoint_of(upsampler),
    }


def _read_times(path: Path) -> dict[str, float]:
    """Seconds that videos took; where this is not to be had they are computed again."""
    try:
        found: dict[str, float] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found
