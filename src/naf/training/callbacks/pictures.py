"""Comparison sheets of held-out photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image

from naf.data.features import write_picture
from naf.training.datamodule import PhotoData
from naf.training.module import TrainingModule
from naf.training.objectives.similarity import in_output_space
from naf.training.photos import Batch
from naf.visualization import Panel, PCAColors, comparison_sheet
from naf.visualization.pca import to_image

_WIDTH = 240  # pixels of a panel


class Pictures(L.Callback):
    """Photo, input, bilinear, prediction and target side by side, in the target's principal components.

    Written to a folder, and to TensorBoard and W&B where these log.

    Args:
        folder: takes STEP_NUMBER.png.
        count: held-out photos; the sources take turns.
        every: steps; also after the last one.
        total_steps: of the run.
    """

    def __init__(self, folder: Path, count: int, every: int, total_steps: int) -> None:
        self.folder, self.count, self.every, self.total = folder, count, every, total_steps
        self._batches: list[Batch] | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw where it is time to."""
        step = trainer.global_step
        if not self.count or not trainer.is_global_zero or (step % self.every and step < self.total):
            return
        assert isinstance(pl_module, TrainingModule)
        if self._batches is None:
            data: Any = trainer  # Lightning's stubs do not know this attribute
            assert isinstance(data.datamodule, PhotoData)
            self._batches = data.datamodule.picture_batches(self.count)
        self.folder.mkdir(exist_ok=True)
        pl_module.eval()
        for number, photo in enumerate(self._batches):
            with trainer.precision_plugin.val_step_context():
                sheet = draw(pl_module, photo.to(pl_module.device), f"step {step}, {photo.plan.source}")
            write_picture(self.folder / f"{step:07d}_{number}.png", sheet)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(f"photo {number}", np.asarray(sheet), step, dataformats="HWC")
                elif isinstance(logger, WandbLogger):
                    logger.log_image(f"photo {number}", [sheet], step=step)
        pl_module.train()


@torch.no_grad()
def draw(module: TrainingModule, batch: Batch, title: str) -> Image.Image:
    """The sheet of a batch's first image."""
    example = module.example(batch)
    size = example.target.shape[2:]
    target, features = (in_output_space(module.upsampler, x) for x in (example.target, example.features))
    smooth = F.interpolate(features, size=size, mode="bilinear")
    predicted = module.upsampler(example.guidance, example.features, size).float()
    colors = PCAColors.fit(target[:1])

    def panel(name: str, x: torch.Tensor) -> Panel:
        caption = f"{x.shape[2]}x{x.shape[3]}"
        if x.shape == target.shape and name != "target":
            caption += f", squared error {F.mse_loss(x[:1], target[:1]).item():.4g}"
        return Panel(colors.image(x), name, caption, is_coarse=True)

    maps = {"input": features, "bilinear": smooth, module.upsampler.name: predicted, "target": target}
    photo = Panel(to_image(example.image01[0]), "photo", f"{batch.plan.image_size} pixels")
    return comparison_sheet([photo, *(panel(*item) for item in maps.items())], title=title, width=_WIDTH)
