"""Fitting FeatUp's implicit network to one image: what it gives must explain every jittered view of the backbone."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from naf.upsamplers.extractor import FeatureExtractor
from naf.upsamplers.featup_checkpoint import read_fit, write_fit
from naf.upsamplers.featup_network import ImplicitNetwork
from naf.upsamplers.featup_objective import Objective
from naf.upsamplers.featup_pca import PCA, fit_pca
from naf.upsamplers.featup_views import draw_views, see
from naf.weights import WeightsError

log = logging.getLogger("naf")

Progress = Callable[[int, int, float], object]

_PCA_VIEWS = 50
_BATCH = 10  # views a step, and a pass of the backbone
_EVERY = 100  # steps between reports and between checkpoints
_SMOOTHING = 0.95  # of the loss, which jumps with the views of a step


class ImplicitFit:
    """A fit under way.

    Args:
        network: what is fitted; its parameters are drawn anew from the seed.
        pixels: row, column and scaled colour of each pixel, (H, W, 5), dtype and device of the network.
        image01: the same image for the backbone, (3, H, W), values from 0 to 1.
        backbone: gives the features of the views.
        views: number of views.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        network: ImplicitNetwork,
        pixels: Tensor,
        image01: Tensor,
        backbone: FeatureExtractor,
        *,
        views: int,
        seed: int,
    ) -> None:
        self.network, self.pixels, self.image01, self.backbone = network, pixels, image01, backbone
        self.generator = torch.Generator().manual_seed(seed)
        network.reset(self.generator)
        size = image01.shape[1], image01.shape[2]
        dim = network.last.out_features
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator before ours replaces it
            self.objective = Objective(dim, _kernel(backbone.stride, size), self.generator).to(pixels)
        self.optimizer = torch.optim.NAdam([*network.parameters(), *self.objective.parameters()])
        self.views = draw_views(views, self.generator)
        self.pca: PCA | None = None
        # (views, h, w, dim), filled from the front: 150 MB for 3000 views of 14 x 14 cells in 128 dimensions.
        self.reduced = torch.empty(0, dtype=torch.float16)
        self.seen = self.step = self.since_best = 0
        self.loss = self.best = math.inf

    def run(
        self,
        steps: int,
        patience: int | None,
        checkpoint: Path | None,
        fingerprint: dict[str, Any],
        on_progress: Progress,
    ) -> PCA:
        """Fit to the end, from where the checkpoint left off if there is one.

        Args:
            steps: in all, earlier ones included.
            patience: steps without a fall of the smoothed loss after which to stop; None for never.
            checkpoint: file to write every 100 steps, at the end and when interrupted, and to go on from.
            fingerprint: what the fit depends on: a checkpoint with another is refused.
            on_progress: called after each step with steps done, steps in all and the loss of the step.

        Returns:
            The basis in which the network's output lies.

        Raises:
            WeightsError: if the checkpoint cannot be read or is of another fit.
            RuntimeError: if the loss is no finite number.
        """
        kept: dict[str, Any] | None = None
        if checkpoint is not None and checkpoint.exists():
            kept = read_fit(checkpoint, fingerprint)
            self._restore(kept, checkpoint)
        try:
            while self.seen < len(self.views.zoom):
                self._look()
                kept = self._state() if checkpoint and self.pca else None
            while self.step < steps and (patience is None or self.since_best < patience):
                loss = self._descend()
                # A copy, as an interruption may fall between two parameters; both are small.
                kept = self._state() if checkpoint else None
                on_progress(self.step, steps, loss)
                if self.step % _EVERY == 0:
                    log.info("featup-implicit: step %d of %d, loss %.4f", self.step, steps, self.loss)
                    if checkpoint and kept:
                        write_fit(checkpoint, fingerprint, kept)
        finally:
            if checkpoint and kept:
                write_fit(checkpoint, fingerprint, kept)
        assert self.pca is not None
        return self.pca

    @torch.no_grad()
    def _features(self, chosen: slice) -> Tensor:
        """The backbone's features of some views, (n, h, w, C)."""
        images = see(self.image01, self.views.select(chosen)).clamp(0, 1)
        features = self.backbone.extract(images).features.permute(0, 2, 3, 1).float()
        if not features.isfinite().all():
            raise ValueError("backbone gives NaN or infinite features, expected finite ones")
        return features

    def _look(self) -> None:
        """The next views through the backbone: until the basis is fitted all at once, then a batch at a time."""
        count = len(self.views.zoom)
        if self.pca is None:
            log.info("featup-implicit: %d views through the backbone", count)
            first = min(_PCA_VIEWS, count)
            parts = [self._features(slice(i, min(i + _BATCH, first))) for i in range(0, first, _BATCH)]
            features = torch.cat(parts)
            channels = self.backbone.channels
            if features.shape[3] != channels:
                raise ValueError(f"backbone gives {features.shape[3]} channels, expected its {channels}")
            pca = fit_pca(features.flatten(0, 2), self.network.last.out_features)
            self.pca = PCA(*(table.to(features.device) for table in pca))
            self.reduced = self.reduced.new_zeros(count, *features.shape[1:3], len(self.pca.components))
        else:
            first = min(self.seen + _BATCH, count)
            features = self._features(slice(self.seen, first))
        self.reduced[self.seen : first] = self.pca.reduce(features)
        if not self.reduced[self.seen : first].isfinite().all():
            raise ValueError("backbone gives features beyond the range of float16, in which they are kept")
        self.seen = first

    def _descend(self) -> float:
        """One step of the optimiser; the loss before it."""
        chosen = torch.randint(self.seen, (_BATCH,), generator=self.generator)
        targets = self.reduced[chosen].to(self.pixels)
        hr = self.network(self.pixels, self.generator)
        loss = self.objective(hr, targets, self.views.select(chosen), self.generator)
        value = loss.item()
        if not math.isfinite(value):
            raise RuntimeError(f"the loss is {value} at step {self.step + 1}, expected a finite number")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1
        self.loss = value if self.step == 1 else _SMOOTHING * self.loss + (1 - _SMOOTHING) * value
        self.since_best = 0 if self.loss < self.best else self.since_best + 1
        self.best = min(self.best, self.loss)
        return float(value)

    def _modules(self) -> dict[str, nn.Module]:
        return {"network": self.network, "objective": self.objective}

    def _state(self) -> dict[str, Any]:
        """All that changes: tensors and plain containers. The features are not copied, as they only grow."""
        assert self.pca is not None
        moving = {name: module.state_dict() for name, module in self._modules().items()}
        moving["optimizer"] = self.optimizer.state_dict()
        counters = {name: getattr(self, name) for name in ("step", "since_best", "loss", "best")}
        return {
            **copy.deepcopy(moving),
            "generator": self.generator.get_state(),
            "counters": counters,
            "pca": tuple(self.pca),
            "reduced": self.reduced[: self.seen],
        }

    def _restore(self, state: dict[str, Any], checkpoint: Path) -> None:
        reduced = state["reduced"]
        self.pca = PCA(*(table.to(self.image01.device) for table in state["pca"]))
        first = min(_BATCH, len(reduced))
        features = self._features(slice(0, first))
        if features.shape[:3] != reduced[:first].shape[:3] or not torch.allclose(
            self.pca.reduce(features).cpu(),
            reduced[:first].float(),
            rtol=0,
            atol=1e-2 * float(reduced[:first].abs().max()),
        ):
            raise WeightsError(f"checkpoint {checkpoint} is of another fit: the backbone differs")
        self.seen = len(reduced)
        self.reduced = reduced.new_zeros(len(self.views.zoom), *reduced.shape[1:])
        self.reduced[: self.seen] = reduced
        for name, module in self._modules().items():
            module.load_state_dict(state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        for own, saved in zip(self.optimizer.state.values(), state["optimizer"]["state"].values(), strict=True):
            own["mu_product"] = saved["mu_product"]  # loading moves it to the parameter's dtype: another rounding
        self.generator.set_state(state["generator"])
        for name, value in state["counters"].items():
            setattr(self, name, value)


def _kernel(stride: int, size: tuple[int, int]) -> int:
    """Side of the downsampler's patches, as the authors chose it for backbones of stride 8, 14 and 16, and 32."""
    kernel = 8 if stride <= 8 else 29 if stride <= 16 else 35
    return min(kernel, *size)
