"""An upsampler in training, as Lightning sees it; of restorers see :mod:`naf.training.restoration`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torchmetrics import MeanMetric

from naf.data.feature_cache import FeatureCache
from naf.restoration import Restorer
from naf.training.errors import TrainingError
from naf.training.example import Example
from naf.training.network import Network, name_of
from naf.training.objective import Objective
from naf.training.objectives.similarity import in_output_space
from naf.training.photos import Batch
from naf.training.plan import Stage
from naf.training.sources import FeatureSource
from naf.upsamplers.base import Upsampler

BASELINES = {"bilinear": "bilinear", "nearest": "nearest-exact"}
"""Modes of interpolation that validation compares with, by name."""
SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": lambda share: 0.5 * (1 + math.cos(math.pi * share)),
    "anneal_last_quarter": lambda share: min(1.0, 4 * (1 - share)),
}
"""Factor on a stage's learning rate at a share of all steps, from 0 to below 1."""


class TrainingModule(L.LightningModule):
    """An upsampler, what it is trained with, and where its features come from.

    Each step follows from its plan: PyTorch's global generators are seeded by it, alike in every process, so that a
    resumed run repeats the steps of one that was never stopped.

    Args:
        upsampler: what is trained.
        objective: its loss; trained with it where it has parameters.
        sources: of the features, by name; frozen.
        stages: for the learning rates.
        optimizer: makes one for parameters; the learning rate is set at each step. By default the paper's AdamW.
        schedule: one of SCHEDULES.
        clip_norm: greatest norm of the gradient of all parameters together; None for any.
        clip_first_steps: that this holds for; None for all.
        log_every: steps.
        caches: of the sources' features, by name.
        validated: names of the sources that have held-out photos.

    Raises:
        ValueError: for an unknown schedule, sources that do not offer what the objective needs, or an objective that
            trains the other kind of network.
    """

    kinds: ClassVar[tuple[str, ...]] = ("loss", *BASELINES)
    """What validation measures of each source."""

    def __init__(
        self,
        upsampler: Network,
        objective: Objective,
        sources: Mapping[str, FeatureSource],
        stages: Sequence[Stage],
        *,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        schedule: str = "constant",
        clip_norm: float | None = None,
        clip_first_steps: int | None = None,
        log_every: int = 10,
        caches: Mapping[str, FeatureCache] | None = None,
        validated: Collection[str] = (),
    ) -> None:
        super().__init__()
        if schedule not in SCHEDULES:
            raise ValueError(f"optimizer.schedule is {schedule!r}, expected one of {', '.join(SCHEDULES)}")
        for name, source in sources.items():
            if objective.needs_extract and not source.can_extract:
                raise ValueError(
                    f"source {name!r} cannot give features of any image, which {type(objective).__name__} needs: "
                    "train with a backbone or pixels"
                )
        if isinstance(upsampler, Restorer) != objective.trains_restorers:
            raise ValueError(
                f"objective is {type(objective).__name__}, which cannot train {name_of(upsampler)!r}: restorers need "
                "objective=restoration and sources=noisy, upsamplers another objective"
            )
        self.upsampler: Network = upsampler.train()
        self.objective = objective.train()
        self.sources = nn.ModuleDict(dict(sources)).requires_grad_(False).eval()
        self.stages, self.schedule, self.log_every = list(stages), schedule, log_every
        self.clip_norm, self.clip_first_steps = clip_norm, clip_first_steps
        self.caches = {} if objective.needs_extract else dict(caches or {})
        self.total_steps = sum(stage.steps for stage in stages)
        self.terms: dict[str, float] = {}
        """Of the last step: loss terms, means over all processes, and the norm of the gradient."""
        self.validation: dict[str, float] = {}
        """Results of the last validation."""
        self.validated_at = -1
        """Its step."""
        self._validated = list(validated)
        self._make_optimizer = optimizer or _adamw
        self._errors = nn.ModuleDict(
            {name: nn.ModuleDict({kind: MeanMetric() for kind in self.kinds}) for name in sources}
        )
        self._batch: Batch | None = None
        self._local_terms: dict[str, Tensor] = {}
        self._began = self._since = time.monotonic()
        self._seconds_before, self._images = 0.0, 0

    @property
    def feature_sources(self) -> dict[str, FeatureSource]:
        """By name."""
        return {name: source for name, source in self.sources.items() if isinstance(source, FeatureSource)}

    def train(self, mode: bool = True) -> TrainingModule:
        """As any module; the sources stay in evaluation mode."""
        super().train(mode)
        self.sources.eval()
        return self

    def configure_optimizers(self) -> Optimizer:
        """Over upsampler and objective."""
        return self._make_optimizer([*self.upsampler.parameters(), *self.objective.parameters()])

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed everything, and set the learning rate of the step."""
        del batch_idx
        plan, self._batch = batch.plan, batch
        if plan.step != self.global_step:
            raise TrainingError(f"the photos are those of step {plan.step}, expected step {self.global_step}")
        torch.manual_seed(plan.seed)  # of all devices
        lr = self.stages[plan.stage].lr * SCHEDULES[self.schedule](plan.step / self.total_steps)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = lr

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a step."""
        del batch_idx
        terms = self.objective(self.upsampler, self.example(batch, self.caches.get(batch.plan.source)))
        self._local_terms = {name: value.detach().float().reshape(()) for name, value in terms.items()}
        loss: Tensor = terms["loss"]
        return loss

    def example(self, batch: Batch, cache: FeatureCache | None = None) -> Example:
        """What the objective gets of a batch."""
        source = self.sources[batch.plan.source]
        assert isinstance(source, FeatureSource)
        example = source.example(batch, cache)
        # The order in memory that convolutions are fastest with.
        return replace(example, guidance=example.guidance.contiguous(memory_format=torch.channels_last))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Refuse to go on with a loss or gradient that is not finite.

        Raises:
            TrainingError: naming step, source and the last good checkpoint.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        local = torch.stack(list(self._local_terms.values()))
        shared = self.trainer.strategy.reduce(local, reduce_op="mean")
        assert isinstance(shared, Tensor)
        numbers = torch.cat([shared, norm.to(shared)[None]]).tolist()  # the step's one wait for the device
        self.terms = dict(zip((*self._local_terms, "grad_norm"), numbers, strict=True))
        bad = [name for name, value in self.terms.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(self._not_finite(bad))

    def _not_finite(self, names: Sequence[str]) -> str:
        assert self._batch is not None
        saved = getattr(self.trainer.checkpoint_callback, "last", None)
        kept = "there is no checkpoint yet" if saved is None else f"the last good checkpoint is {saved}"
        found = ", ".join(f"{name} {self.terms[name]:g}" for name in names)
        return (
            f"step {self.global_step} on source {self._batch.plan.source!r}: {found}. Stopped before the weights took "
            f"it; {kept}. Lower the learning rate, set optimizer.clip_norm, or look at the images"
        )

    def configure_gradient_clipping(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        """Clip the norm in the steps that it is asked for."""
        del args, kwargs
        if self.clip_norm is not None and (self.clip_first_steps is None or self.global_step < self.clip_first_steps):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """The objective's own bookkeeping, and the log: a step's row has its number from 0."""
        del outputs, batch_idx
        plan, self._batch = batch.plan, None
        if isinstance(self.upsampler, Upsampler):
            self.objective.after_step(self.upsampler, plan.step)
        self._images += plan.batch_size
        if plan.step % self.log_every and plan.step + 1 < self.total_steps:
            return
        values = {f"train/{name}": value for name, value in self.terms.items()}
        values["train/lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        values["train/images_per_second"] = self._images / (time.monotonic() - self._since)
        self._log(values, plan.step)
        self._since, self._images = time.monotonic(), 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Mean squared errors of the upsampler and of plain interpolation on held-out photos."""
        del batch_idx
        example = self.example(batch, self.caches.get(batch.plan.source))
        size = example.target.shape[2:]
        assert isinstance(self.upsampler, Upsampler)
        target, features = (in_output_space(self.upsampler, x) for x in (example.target, example.features))
        made = {kind: F.interpolate(features, size=size, mode=mode) for kind, mode in BASELINES.items()}
        made["loss"] = self.upsampler(example.guidance, example.features, size)
        self._measure(batch, {kind: F.mse_loss(value.float(), target) for kind, value in made.items()})

    def _measure(self, batch: Batch, found: Mapping[str, Tensor]) -> None:
        """Take the means of a batch into those of its source."""
        weight = 0 if batch.first < 0 else len(batch.image01)  # negative: a repetition that evens out the shares
        metrics = self._errors[batch.plan.source]
        assert isinstance(metrics, nn.ModuleDict)
        for kind, value in found.items():
            metrics[kind].update(value, weight)  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        """Log what :meth:`validation_step` has measured, over all processes."""
        found: dict[str, dict[str, float]] = {}
        for name, metrics in self._errors.items():
            if name not in self._validated:
                continue
            assert isinstance(metrics, nn.ModuleDict)
            found[name] = {kind: float(metric.compute()) for kind, metric in metrics.items()}  # type: ignore[operator]
            for metric in metrics.values():
                metric.reset()  # type: ignore[operator]
        self.validation, self.validated_at = self._summarize(found), self.global_step
        self._log(self.validation, self.global_step)

    def _summarize(self, found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Each source's error and its relation to those of plain interpolation, and the means of these."""
        values: dict[str, float] = {}
        for name, errors in found.items():
            values[f"val/{name}/loss"] = errors["loss"]
            values |= {f"val/{name}/over_{kind}": errors["loss"] / errors[kind] for kind in BASELINES}
        for kind in BASELINES:
            relative = [values[f"val/{name}/over_{kind}"] for name in found]
            values[f"val/over_{kind}"] = sum(relative) / len(relative)
        return values

    @property
    def validation_words(self) -> str:
        """The last validation in a line."""
        ending = "/over_bilinear"
        return "held-out error over that of bilinear: " + ", ".join(
            f"{key.split('/')[1]} {value:.4f}"
            for key, value in self.validation.items()
            if key.endswith(ending) and key != f"val{ending}"
        )

    @property
    def seconds(self) -> float:
        """That the training has taken until now, without what a kill made void."""
        return self._seconds_before + time.monotonic() - self._began

    def on_fit_start(self) -> None:
        """Start the clock."""
        self._began = self._since = time.monotonic()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say which upsampler it is, and the time."""
        checkpoint["upsampler"] = {"name": name_of(self.upsampler), "config": dict(self.upsampler.config or {})}
        checkpoint["seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the time, and begin the epoch of the checkpoint's step.

        Lightning's own way to go on between two epochs depends on whether the first one ended with a validation, and
        may end the second one early.
        """
        self._seconds_before = float(checkpoint["seconds"])
        del checkpoint["loops"]
        data: Any = self.trainer  # Lightning's stubs do not know this attribute
        loop, done = self.trainer.fit_loop, checkpoint["global_step"] // data.datamodule.steps_per_epoch
        counts = dict.fromkeys(("ready", "started", "processed", "completed"), done)
        loop.epoch_progress.load_state_dict({"total": counts, "current": dict(counts)})
        loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = checkpoint["global_step"]

    def _log(self, values: Mapping[str, float], step: int) -> None:
        for logger in self.loggers:
            logger.log_metrics(dict(values), step=step)


def _adamw(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return AdamW(parameters, betas=(0.9, 0.999), weight_decay=1e-5)
