"""Progress with the time left."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from naf.training.module import TrainingModule

_MEMORY = 0.95  # weight of what was before in the running means


class Report(L.Callback):
    """Step, loss and time left: a bar on a terminal, elsewhere a line every so many seconds.

    The time left is that of steps like the last ones; those of a later stage may take longer.

    Args:
        console: where to.
        total_steps: of the run.
        every: seconds between lines.
    """

    def __init__(self, console: Console, total_steps: int, every: float = 30.0) -> None:
        self.console, self.total, self.every = console, total_steps, every
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._loss: float | None = None
        self._pace: float | None = None  # seconds a step
        self._began = self._said = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin at the step that the run goes on from."""
        self._began = self._said = time.monotonic()
        if trainer.is_global_zero and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task("training", total=self.total, completed=trainer.global_step)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Validation and checkpoints are not counted in the pace."""
        if batch_idx == 0:
            self._began = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and say something where it is time to."""
        assert isinstance(pl_module, TrainingModule)
        now = time.monotonic()
        self._loss = _mean(self._loss, pl_module.terms["loss"])
        self._pace = _mean(self._pace, now - self._began)
        self._began = now
        if not trainer.is_global_zero:
            return
        step, left = trainer.global_step, _clock(self._pace * (self.total - trainer.global_step))
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=f"loss {self._loss:.4g}, {left} left")
        elif now - self._said >= self.every or step == self.total:
            self._said = now
            rate = batch.plan.batch_size / self._pace
            self._say(f"step {step}/{self.total}: loss {self._loss:.4g}, {rate:.3g} images/s, {left} left")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what was found."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.is_global_zero:
            self._say(f"step {trainer.global_step}/{self.total}: {pl_module.validation_words}")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take the bar away."""
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Likewise: Lightning calls no teardown then, and the bar would keep the terminal."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False)


def _mean(before: float | None, now: float) -> float:
    return now if before is None else _MEMORY * before + (1 - _MEMORY) * now


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
