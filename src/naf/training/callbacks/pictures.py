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
from naf.restoration import metrics
from naf.training.datamodule import PhotoData
from naf.training.module import TrainingModule
from naf.training.objectives.similarity import in_output_space
from naf.training.photos import Batch
from naf.training.restoration import RestorationModule
from naf.upsamplers.base import Upsampler
from naf.visualization import Panel, PCAColors, comparison_sheet
from naf.visualization.pca import to_image

_WIDTH = 240  # pixels of a panel
_RESTORED_WIDTH = 448


class Pictures(L.Callback):
    """Photo, input, bilinear, prediction and target side by side, in the target's principal components.

    Of restorers: noisy image, restored image and clean image.

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
                drawn = draw_restored if isinstance(pl_module, RestorationModule) else draw
                sheet = drawn(pl_module, photo.to(pl_module.device), f"step {step}, {photo.plan.source}")
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
    assert isinstance(module.upsampler, Upsampler)
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


@torch.no_grad()
def draw_restored(module: TrainingModule, batch: Batch, title: str) -> Image.Image:
    """The sheet of a batch's first image, of a restorer."""
    example = module.example(batch)
    clean = example.target[:1]

    def panel(name: str, x: torch.Tensor) -> Panel:
        caption = f"{metrics.psnr(x, clean).item():.2f} dB, SSIM {metrics.ssim(x, clean).item():.3f}"
        return Panel(to_image(x[0].clamp(0, 1)), name, caption)

    restored = module.upsampler(example.features).float()[:1]
    size = f"{clean.shape[2]} x {clean.shape[3]} pixels"
    maps = {"noisy": example.features[:1], module.upsampler.name: restored}
    panels = [*(panel(*item) for item in maps.items()), Panel(to_image(clean[0]), "clean", size)]
    return comparison_sheet(panels, title=title, width=_RESTORED_WIDTH)
