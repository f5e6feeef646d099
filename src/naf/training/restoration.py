"""A restorer in training, as Lightning sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from naf.data.feature_cache import FeatureCache
from naf.restoration import metrics
from naf.training.example import Example
from naf.training.module import TrainingModule
from naf.training.photos import Batch


class RestorationModule(TrainingModule):
    """A restorer in place of an upsampler; arguments and steps as there.

    Held-out photos are measured by PSNR and SSIM (standard definitions), as they are restored and as they came.
    """

    kinds: ClassVar[tuple[str, ...]] = ("loss", "psnr", "ssim", "noisy_psnr", "noisy_ssim")

    def example(self, batch: Batch, cache: FeatureCache | None = None) -> Example:
        """What the objective gets of a batch."""
        example = super().example(batch, cache)
        return replace(example, features=example.features.contiguous(memory_format=torch.channels_last))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss, PSNR and SSIM on held-out photos."""
        del batch_idx
        example = self.example(batch)
        noisy, clean = example.features, example.target
        restored = self.upsampler(noisy).float()
        found: dict[str, Tensor] = {
            "loss": self.objective(lambda _: restored, example)["loss"],
            "psnr": metrics.psnr(restored, clean).mean(),
            "ssim": metrics.ssim(restored, clean).mean(),
            "noisy_psnr": metrics.psnr(noisy, clean).mean(),
            "noisy_ssim": metrics.ssim(noisy, clean).mean(),
        }
        self._measure(batch, found)

    def _summarize(self, found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        return {f"val/{name}/{kind}": value for name, values in found.items() for kind, value in values.items()}

    @property
    def validation_words(self) -> str:
        """The last validation in a line."""
        sources = dict.fromkeys(key.split("/")[1] for key in self.validation)
        return "held-out photos: " + ", ".join(
            "{0} {psnr:.2f} dB, SSIM {ssim:.4f} (with noise {noisy_psnr:.2f} dB, {noisy_ssim:.4f})".format(
                name, **{kind: self.validation[f"val/{name}/{kind}"] for kind in self.kinds}
            )
            for name in sources
        )
