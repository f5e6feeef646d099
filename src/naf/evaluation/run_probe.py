"""Linear probes of upsamplers over backbones and seeds, as configured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from shutil import rmtree
from typing import Any

import torch
from rich.console import Console
from torch import nn

from naf import registry
from naf.backbones import Backbone
from naf.benchmark.measure import measure
from naf.evaluation.candidates import Candidate, checkpoint_of
from naf.evaluation.features import Features
from naf.evaluation.images import batches
from naf.evaluation.pixels import Pixels, fit_pixels, gather, score_many
from naf.evaluation.probe import fit, score, seconds_so_far
from naf.evaluation.progress import told
from naf.evaluation.protocol import ProbeProtocol, deviations
from naf.evaluation.record import EvaluationRecord
from naf.evaluation.results import Results, Run
from naf.evaluation.task import ProbeTask, Score
from naf.upsamplers.base import Upsampler
from naf.weights import WeightsError


@dataclass(frozen=True)
class Setup:
    """What all runs of a command have in common.

    Attributes:
        task: "segmentation", "depth", "filter" or "ratio".
        dataset: key of the data set.
        learned: the task itself.
        protocol: its settings.
        plain: the chosen protocol's own settings.
        seeds: each a run.
        results: where records go.
        console: where progress goes.
        workers: processes that read images.
        is_dense: upsample all channels before the layer.
        by_grid: whether the size of the backbone's grid is a column of its own.
        note: of the user, for the records.
        options: of the data set.
    """

    task: str
    dataset: str
    learned: ProbeTask
    protocol: ProbeProtocol
    plain: Mapping[str, Any]
    seeds: list[int]
    results: Results
    console: Console
    workers: int
    is_dense: bool
    by_grid: bool
    note: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Cell:
    """An upsampler on a backbone, and its runs that are not there yet."""

    label: str
    upsampler: Upsampler
    runs: list[Run]


def run_probes(
    setup: Setup, backbones: Mapping[str, Features], candidates: list[Candidate]
) -> tuple[list[EvaluationRecord], int]:
    """Records of all runs, in the order of the candidates; those that were there already too.

    Args:
        setup: what they have in common.
        backbones: features by label.
        candidates: the upsamplers.

    Returns:
        The records, and how many runs failed. A failure is told and does not stop the others.
    """
    records: list[EvaluationRecord] = []
    failures = 0
    is_ready = not setup.protocol.standardize
    for candidate in candidates:
        found, cells, refused = _plan(setup, backbones, candidate)
        records += found
        failures += refused
        work = [cells] if setup.protocol.pixels is not None else [[cell] for cell in cells]
        for part in work:
            if not part:
                continue
            try:
                if not is_ready:
                    _standardize(setup, backbones)
                    is_ready = True
                together = _by_pixels if setup.protocol.pixels is not None else _by_images
                records += together(setup, backbones, candidate, part)
            except (ValueError, OSError, RuntimeError, MemoryError) as error:
                failures += sum(len(cell.runs) for cell in part)
                setup.console.print(
                    f"failed: {', '.join(c.label for c in part)}, {candidate.label}: {error}", markup=False
                )
            finally:
                for features in backbones.values():
                    features.flush()
    return records, failures


def _plan(
    setup: Setup, backbones: Mapping[str, Features], candidate: Candidate
) -> tuple[list[EvaluationRecord], list[_Cell], int]:
    """Records that are there, cells with runs to be computed, and runs that cannot be."""
    found, cells, refused = [], [], 0
    networks: dict[str, Upsampler] = {}
    about = registry.entry(candidate.name)
    for label, features in backbones.items():
        backbone = features.backbone
        try:
            upsampler = candidate.make(backbone, label)
        except (WeightsError, ValueError, TypeError, OSError) as error:
            refused += len(setup.seeds)
            setup.console.print(f"failed: {label}, {candidate.label}: {error}", markup=False)
            continue
        # Backbones whose networks are the same share one, and with it the guidance.
        made_for = about.config_for(backbone.channels, backbone.stride), label if about.needs_backbone else ""
        key = repr((*made_for, features.device, checkpoint_of(upsampler)))
        upsampler = networks.setdefault(key, upsampler)
        runs = []
        for seed in setup.seeds:
            run = Run(
                label,
                candidate.label,
                seed,
                _variant(setup, backbone),
                _decisive(setup, features, candidate, upsampler),
            )
            if (record := setup.results.find(run)) is None:
                runs.append(run)
            else:
                setup.console.print(f"{run}: there already", markup=False)
                found.append(record)
        if runs:
            cells.append(_Cell(label, upsampler, runs))
    return found, cells, refused


def _by_images(
    setup: Setup, backbones: Mapping[str, Features], candidate: Candidate, cells: list[_Cell]
) -> list[EvaluationRecord]:
    """All pixels, anew at each step: one backbone, its seeds one after another."""
    (cell,) = cells
    features, task, protocol = backbones[cell.label], setup.learned, setup.protocol
    heads, seconds, peaks = [], [], []
    steps = protocol.epochs * -(-len(task.train) // protocol.batch_size)
    for run in cell.runs:
        checkpoint = setup.results.path(run, ".ckpt")
        before = seconds_so_far(checkpoint)
        with measure(features.device) as usage, told(setup.console, f"{run}: training", steps) as on_step:
            heads.append(
                fit(
                    task,
                    features,
                    cell.upsampler,
                    protocol,
                    run.seed or 0,
                    checkpoint=checkpoint,
                    is_dense=setup.is_dense,
                    workers=setup.workers,
                    on_step=on_step,
                )
            )
        seconds.append(before + usage.seconds)
        peaks.append(usage.peak_mib)
    what = f"{cell.label}, {candidate.label}: scoring"
    with measure(features.device) as usage, told(setup.console, what, len(task.val)) as on_step:
        scores = score(task, features, cell.upsampler, protocol, heads, workers=setup.workers, on_step=on_step)
    records = []
    for run, one, spent, peak in zip(cell.runs, scores, seconds, peaks, strict=True):
        took = spent + usage.seconds / len(heads)
        records.append(_write(setup, features, cell, run, one, took, max(peak, usage.peak_mib)))
        setup.results.path(run, ".ckpt").unlink(missing_ok=True)
    return records


def _by_pixels(
    setup: Setup, backbones: Mapping[str, Features], candidate: Candidate, cells: list[_Cell]
) -> list[EvaluationRecord]:
    """Drawn pixels, upsampled once: all backbones and seeds together, for they share the guidance."""
    task, protocol = setup.learned, setup.protocol
    upsamplers = {cell.label: cell.upsampler for cell in cells}
    runs = [run for cell in cells for run in cell.runs]
    seeds = sorted({run.seed or 0 for run in runs})
    digest = Run("", "", None, "", {"runs": [[run.backbone, run.digest] for run in runs], "seeds": seeds}).digest
    folder = setup.results.folder / f"pixels-{digest}"
    pixels = Pixels(folder, digest, seeds, protocol)
    device = next(iter(backbones.values())).device
    begun = time.monotonic()
    with measure(device) as usage:
        with told(setup.console, f"{candidate.label}: training pixels", len(task.train)) as on_step:
            gather(task, backbones, upsamplers, protocol, pixels, workers=setup.workers, on_step=on_step)
        heads: dict[str, list[nn.Conv2d]] = {}
        fitted: dict[str, float] = {}
        with told(setup.console, f"{candidate.label}: training", len(runs)) as on_step:
            for cell in cells:
                heads[cell.label] = []
                for run in cell.runs:
                    start, seed = time.monotonic(), run.seed or 0
                    values, targets = pixels.of(cell.label, len(task.train), seed)
                    heads[cell.label].append(fit_pixels(task, values, targets, protocol, seed))
                    del values, targets  # before those of the next seed are made
                    fitted[run.digest] = time.monotonic() - start
                    on_step()
        with told(setup.console, f"{candidate.label}: scoring", len(task.val)) as on_step:
            scores = score_many(task, backbones, upsamplers, protocol, heads, workers=setup.workers, on_step=on_step)
    shared = (time.monotonic() - begun - sum(fitted.values())) / len(runs)
    records = [
        _write(setup, backbones[cell.label], cell, run, one, shared + fitted[run.digest], usage.peak_mib)
        for cell in cells
        for run, one in zip(cell.runs, scores[cell.label], strict=True)
    ]
    rmtree(folder, ignore_errors=True)
    return records


def _write(
    setup: Setup, features: Features, cell: _Cell, run: Run, one: Score, seconds: float, peak_mib: float
) -> EvaluationRecord:
    task, settings = setup.learned, setup.protocol.settings()
    backbone = features.backbone
    metrics = one.metrics()
    ratio = setup.protocol.target_size / _grid(setup, backbone)
    notes = dict.fromkeys(part for part in (setup.note, task.train.note, task.val.note) if part)
    record = EvaluationRecord(
        task=setup.task,
        protocol=setup.protocol.name,
        deviations=deviations(settings, setup.plain),
        dataset=setup.dataset,
        images={"train": len(task.train), "val": len(task.val)},
        backbone=cell.label,
        stride=backbone.stride,
        channels=backbone.channels,
        upsampler=run.upsampler,
        source=cell.upsampler.weights_source if checkpoint_of(cell.upsampler) else "",
        checkpoint=checkpoint_of(cell.upsampler),
        seed=run.seed,
        variant=run.variant,
        settings={
            **settings,
            "head": "dense" if setup.is_dense else "linear",
            "features": str(features.dtype).removeprefix("torch."),
            **({"options": dict(setup.options)} if setup.options else {}),
        },
        metrics={key: round(value, 4) for key, value in metrics.items()},
        details={"ratio": round(ratio, 4), **one.details()},
        seconds=round(seconds, 1),
        peak_mib=round(peak_mib, 1),
        note="; ".join(notes),
    )
    words = ", ".join(f"{key} {value:.2f}" for key, value in list(record.metrics.items())[:3])
    setup.console.print(f"{run}: {words} ({seconds:.0f} s)", markup=False)
    return setup.results.write(run, record)


def _variant(setup: Setup, backbone: Backbone) -> str:
    return f"grid {_grid(setup, backbone)}" if setup.by_grid else ""


def _grid(setup: Setup, backbone: Backbone) -> int:
    """Cells of a side."""
    return backbone.input_size((setup.protocol.image_size,) * 2)[0] // backbone.stride


def _decisive(setup: Setup, features: Features, candidate: Candidate, upsampler: Upsampler) -> dict[str, Any]:
    return {
        "task": setup.task,
        "dataset": setup.dataset,
        "data": [setup.learned.train.fingerprint(), setup.learned.val.fingerprint(), setup.options],
        "protocol": setup.protocol.settings(),
        "name": setup.protocol.name,
        "dense": setup.is_dense,
        "backbone": [features.fingerprint, str(features.dtype)],
        "upsampler": [candidate.name, sorted(candidate.options.items())],
        "weights": checkpoint_of(upsampler),
    }


@torch.no_grad()
def _standardize(setup: Setup, backbones: Mapping[str, Features]) -> None:
    """Bring channels to mean 0 and deviation 1 over the cells of all training images."""
    task, protocol = setup.learned, setup.protocol
    sums: dict[str, torch.Tensor] = {}
    count: dict[str, int] = {}
    order = [[index] for index in range(len(task.train))]
    with told(setup.console, "features of the training images", len(order)) as on_step:
        for example in batches(task, task.train, protocol, order, setup.workers):
            for label, features in backbones.items():
                cells = features.of(example.image01).cpu().double().flatten(2)[0]  # not every device knows float64
                both = torch.stack([cells.sum(1), cells.square().sum(1)])
                sums[label] = sums[label] + both if label in sums else both
                count[label] = count.get(label, 0) + cells.shape[1]
            on_step()
    for label, features in backbones.items():
        mean, square = sums[label] / count[label]
        deviation = (square - mean.square()).clamp(min=0).sqrt().clamp(min=1e-6)
        features.standardize(mean.float()[:, None, None], deviation.float()[:, None, None])
