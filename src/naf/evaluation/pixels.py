"""Training linear layers on some pixels of each image, which are upsampled once for all epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.data.feature_cache import FeatureCache
from naf.evaluation.features import Features
from naf.evaluation.head import advance, encode, joined, make_head, predict, to_device
from naf.evaluation.images import Example, batches, training_order
from naf.evaluation.protocol import ProbeProtocol
from naf.evaluation.schedule import cosine
from naf.evaluation.task import ProbeTask, Score
from naf.upsamplers.base import Guidance, Upsampler


class Pixels:
    """Upsampled features at the pixels drawn for each seed, of all training images.

    Args:
        folder: where they are kept; a run that was stopped goes on with what is there.
        fingerprint: of all that decides them.
        seeds: for each of which pixels are drawn.
        protocol: its `pixels` says how many.
    """

    def __init__(self, folder: Path, fingerprint: str, seeds: Sequence[int], protocol: ProbeProtocol) -> None:
        # Standardised features fit float16; of others nothing is known.
        dtype = torch.float16 if protocol.standardize else torch.float32
        self._cache = FeatureCache(folder, fingerprint, dtype)
        self.seeds, self.number = tuple(seeds), protocol.pixels or 0

    def draw(self, labelled: Tensor, index: int) -> Tensor:
        """Positions in the flattened map for each seed, one after another.

        Args:
            labelled: (T, T) bool.
            index: of the image.

        Returns:
            (seeds x pixels,); none where no pixel has a label.
        """
        known = labelled.flatten().nonzero()[:, 0]
        if not len(known):
            return known
        drawn = []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
            drawn.append(known[torch.randint(len(known), (self.number,), generator=generator).to(known.device)])
        return torch.cat(drawn)

    def has(self, label: str, index: int) -> bool:
        """Whether an image is done for a backbone."""
        return all(self._cache.get(f"{part}/{index}") is not None for part in (label, "targets"))

    def keep(self, label: str, index: int, values: Tensor) -> None:
        """Keep the values (C, seeds x pixels) of an image."""
        self._cache.put(f"{label}/{index}", _by_seed(values.T, len(self.seeds)))

    def keep_targets(self, index: int, targets: Tensor) -> None:
        """Keep the targets (seeds x pixels,) of an image."""
        self._cache.put(f"targets/{index}", _by_seed(targets, len(self.seeds)).float())

    def of(self, label: str, images: int, seed: int) -> tuple[Tensor, Tensor]:
        """Values (images, pixels, C) and targets (images, pixels) of one seed, of the images that have labels.

        Args:
            label: of the backbone.
            images: how many there are, all of them done.
            seed: one of those that pixels are drawn for.

        Raises:
            ValueError: if no image has a label, or one that was done is lost.
        """
        at = self.seeds.index(seed)
        targets = {index: self._kept("targets", index) for index in range(images)}
        labelled = [index for index, target in targets.items() if target.numel()]
        if not labelled:
            raise ValueError("no training image has a labelled pixel, expected some")
        # Filled in place: at a thousand images the values are too many to be held twice, or for all seeds.
        first = self._kept(label, labelled[0])
        values = first.new_empty(len(labelled), *first.shape[1:])
        for row, index in enumerate(labelled):
            values[row] = self._kept(label, index)[at]
        return values, torch.stack([targets[index][at] for index in labelled]).long()

    def _kept(self, part: str, index: int) -> Tensor:
        found = self._cache.get(f"{part}/{index}")
        if found is None:
            raise ValueError(f"pixels of image {index} are lost in {self._cache.folder}: the same command goes on")
        return found

    def flush(self) -> None:
        """Write what is not on disk yet."""
        self._cache.flush()


@torch.no_grad()
def gather(
    task: ProbeTask,
    features: Mapping[str, Features],
    upsamplers: Mapping[str, Upsampler],
    protocol: ProbeProtocol,
    pixels: Pixels,
    *,
    workers: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> None:
    """Upsample the drawn pixels of every training image.

    Args:
        task: images and targets.
        features: by backbone; of these that `upsamplers` has.
        upsamplers: one for each backbone. One that serves several sees an image once.
        protocol: the settings.
        pixels: where they go.
        workers: processes that read images.
        on_step: called after each image.
    """
    missing = [index for index in range(len(task.train)) if not all(pixels.has(name, index) for name in upsamplers)]
    for _ in range(len(task.train) - len(missing)):
        on_step()
    for example in batches(task, task.train, protocol, [[index] for index in missing], workers):
        index = example.indices[0]
        chosen = pixels.draw(task.labelled(example.targets[0]), index)
        pixels.keep_targets(index, example.targets[0].flatten()[chosen])
        for name, guidance, coarse in guided(example, features, upsamplers, protocol):
            rows, cols = chosen // protocol.target_size, chosen % protocol.target_size
            pixels.keep(name, index, guidance.at(coarse, rows, cols)[0])
        on_step()
    pixels.flush()


def fit_pixels(task: ProbeTask, values: Tensor, targets: Tensor, protocol: ProbeProtocol, seed: int) -> nn.Conv2d:
    """The layer learned from drawn pixels, by the steps of :func:`naf.evaluation.probe.fit`.

    Args:
        task: the loss.
        values: (images, pixels, C).
        targets: (images, pixels).
        protocol: the settings.
        seed: of the layer's first values and of the order.

    Raises:
        ValueError: if the loss is not finite.
    """
    head = make_head(values.shape[2], task.outputs, seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay)
    step = 0
    share: Callable[[int], float] | None = None
    for epoch in range(protocol.epochs):
        order = training_order(len(values), protocol.batch_size, 0 if protocol.shared_order else seed, epoch)
        share = share or cosine(protocol.schedule, protocol.epochs, len(order))
        for chosen in order:
            # A matrix product: the convolution would want the channels first, and spend most of its time on that.
            logits = F.linear(values[chosen].float(), head.weight[:, :, 0, 0], head.bias).transpose(1, 2)[..., None]
            loss = task.loss(logits, targets[chosen][..., None], step)
            advance(optimizer, loss, protocol.lr * share(step), f"at step {step}")
            step += 1
    return head.requires_grad_(False)


@torch.no_grad()
def score_many(
    task: ProbeTask,
    features: Mapping[str, Features],
    upsamplers: Mapping[str, Upsampler],
    protocol: ProbeProtocol,
    heads: Mapping[str, Sequence[nn.Conv2d]],
    *,
    workers: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> dict[str, list[Score]]:
    """As :func:`naf.evaluation.probe.score`, for several backbones; all layers of one go through the image at once."""
    scores = {name: [task.score() for _ in heads[name]] for name in upsamplers}
    joint = {name: joined(heads[name]).to(features[name].device) for name in upsamplers}
    for example in batches(task, task.val, protocol, [[index] for index in range(len(task.val))], workers):
        for name, guidance, coarse in guided(example, features, upsamplers, protocol):
            logits = predict(guidance, coarse, joint[name], protocol)
            targets = example.targets.to(logits.device)
            for one, part in zip(scores[name], logits.split(task.outputs, dim=1), strict=True):
                one.add(part, targets)
        on_step()
    return scores


def guided(
    example: Example, features: Mapping[str, Features], upsamplers: Mapping[str, Upsampler], protocol: ProbeProtocol
) -> list[tuple[str, Guidance, Tensor]]:
    """For each backbone its name, guidance and features; a network that serves several runs once."""
    made: dict[tuple[int, tuple[int, int]], Guidance] = {}
    found = []
    for name, upsampler in upsamplers.items():
        batch = to_device(example, features[name])
        coarse = features[name].of(batch.image01)
        grid = (coarse.shape[2], coarse.shape[3])
        key = (id(upsampler), grid)
        if key not in made:
            made[key] = encode(upsampler, batch, grid, protocol)
        found.append((name, made[key], coarse))
    return found


def _by_seed(values: Tensor, seeds: int) -> Tensor:
    return values.reshape(seeds, len(values) // seeds, *values.shape[1:])
