"""Training a linear layer on upsampled features, image by image."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from naf.data.atomic import replace_file
from naf.evaluation.features import Features
from naf.evaluation.head import advance, encode, joined, make_head, predict, to_device
from naf.evaluation.images import batches, mirrored, training_order
from naf.evaluation.protocol import ProbeProtocol
from naf.evaluation.schedule import cosine
from naf.evaluation.task import ProbeTask, Score
from naf.upsamplers.base import Upsampler

_SAVED_EVERY = 60.0  # seconds
_MOST_OUTPUTS = 512


def fit(
    task: ProbeTask,
    features: Features,
    upsampler: Upsampler,
    protocol: ProbeProtocol,
    seed: int,
    *,
    checkpoint: Path | None = None,
    is_dense: bool = False,
    workers: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> nn.Conv2d:
    """The layer that a probe learns (NAF, appendix B): AdamW, cosine, all labelled pixels of each batch.

    What is drawn depends on the seed and the epoch alone, so a run that goes on from its checkpoint ends with the
    weights of one that was not stopped.

    Args:
        task: images, targets and loss.
        features: of the frozen backbone.
        upsampler: in evaluation mode, on the features' device.
        protocol: the settings.
        seed: of the layer's first values, of order and mirroring.
        checkpoint: file to go on from, written every minute and at the end; None for none.
        is_dense: see :func:`naf.evaluation.head.predict`.
        workers: processes that read images.
        on_step: called after each step, those that the checkpoint had done included.

    Returns:
        The layer, C to `task.outputs` channels.

    Raises:
        ValueError: if the loss is not finite.
    """
    head = make_head(features.backbone.channels, task.outputs, seed).to(features.device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay)
    order_seed = 0 if protocol.shared_order else seed
    orders = [training_order(len(task.train), protocol.batch_size, order_seed, e) for e in range(protocol.epochs)]
    share = cosine(protocol.schedule, protocol.epochs, len(orders[0]))
    done = _restore(checkpoint, head, optimizer)
    begun = time.monotonic() - seconds_so_far(checkpoint)
    for _ in range(done):
        on_step()
    step, saved = 0, time.monotonic()
    for epoch, order in enumerate(orders):
        flips = mirrored(len(order), protocol.flip, seed, epoch)
        first = min(len(order), max(0, done - epoch * len(order)))
        step = epoch * len(order) + first
        examples = batches(task, task.train, protocol, order[first:], workers)
        for example, is_mirrored in zip(examples, flips[first:], strict=True):
            batch = to_device(example.mirrored() if is_mirrored else example, features)
            coarse = features.of(batch.image01)
            guidance = encode(upsampler, batch, (coarse.shape[2], coarse.shape[3]), protocol)
            loss = task.loss(predict(guidance, coarse, head, protocol, is_dense=is_dense), batch.targets, step)
            names = ", ".join(task.train.names[index] for index in batch.indices)
            advance(optimizer, loss, protocol.lr * share(step), f"at step {step} ({names})")
            step += 1
            on_step()
            if checkpoint is not None and time.monotonic() - saved > _SAVED_EVERY:
                _save(checkpoint, step, head, optimizer, time.monotonic() - begun)
                saved = time.monotonic()
    if checkpoint is not None:
        _save(checkpoint, step, head, optimizer, time.monotonic() - begun)
    return head.requires_grad_(False)


@torch.no_grad()
def score(
    task: ProbeTask,
    features: Features,
    upsampler: Upsampler,
    protocol: ProbeProtocol,
    heads: list[nn.Conv2d],
    *,
    workers: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> list[Score]:
    """Scores of layers on the evaluated images, one image at a time.

    Args:
        task: images, targets and metrics.
        features: of the frozen backbone.
        upsampler: on the features' device.
        protocol: the settings.
        heads: each C to `task.outputs` channels.
        workers: processes that read images.
        on_step: called after each image.
    """
    scores = [task.score() for _ in heads]
    # One pass through the upsampler for all, where their outputs together are not too many.
    groups = [heads] if task.outputs * len(heads) <= _MOST_OUTPUTS else [[head] for head in heads]
    layers = [joined(group) for group in groups]
    for example in batches(task, task.val, protocol, [[index] for index in range(len(task.val))], workers):
        batch = to_device(example, features)
        coarse = features.of(batch.image01)
        guidance = encode(upsampler, batch, (coarse.shape[2], coarse.shape[3]), protocol)
        made = (part for layer in layers for part in predict(guidance, coarse, layer, protocol).split(task.outputs, 1))
        for logits, one in zip(made, scores, strict=True):
            one.add(logits, batch.targets)
        on_step()
    return scores


def seconds_so_far(checkpoint: Path | None) -> float:
    """Seconds that the training took until its checkpoint was written, 0 without one.

    Raises:
        ValueError: if the file is damaged.
    """
    return 0.0 if checkpoint is None or not checkpoint.exists() else float(_read(checkpoint).get("seconds", 0.0))


def _save(path: Path, step: int, head: nn.Conv2d, optimizer: torch.optim.Optimizer, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"step": step, "head": head.state_dict(), "optimizer": optimizer.state_dict(), "seconds": seconds}
    replace_file(path, partial(torch.save, state))


def _restore(path: Path | None, head: nn.Conv2d, optimizer: torch.optim.Optimizer) -> int:
    """Steps that are done."""
    if path is None or not path.exists():
        return 0
    state = _read(path)
    try:
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except Exception as error:  # a damaged file fails in every way
        raise _damaged(path) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file fails in every way
        raise _damaged(path) from error


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is damaged, or of another run: remove it to begin anew")
