"""Trains the NAF weights that the package carries: the paper's first stage, scaled to one CPU.

The teacher is SqueezeNet 1.0 (ImageNet), whose stride-8 map of a 256 x 256 crop (32 x 32 cells) is the target and
whose map of the crop at half size (16 x 16 cells) is the input: the grids of the paper's first stage. The guidance
image has 4 pixels a target cell, as there. Channels are shuffled at each step, since each attention head owns a
fixed part of them and the weights must serve any backbone.

    python experiments/train_embedded_naf.py --data ../shared/data --steps 4000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import save_file
from squeezenet import SqueezeNet
from torch import Tensor, nn

import naf
from naf.data import read_image

CROP, STRIDE = 256, 8


class Teacher(nn.Module):
    """SqueezeNet's fire8, each channel brought to unit variance."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.backbone = SqueezeNet(weights, "fire8")
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(1, self.backbone.channels, 1, 1))

    @torch.no_grad()
    def calibrate(self, image01: Tensor) -> None:
        """Fix the channels' scale, so that each has unit variance over these images."""
        self.scale = 1 / self(image01).std((0, 2, 3), keepdim=True).clamp(min=1e-3)

    @torch.no_grad()
    def forward(self, image01: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 512, H/8, W/8)."""
        features: Tensor = self.backbone(image01) * self.scale
        return features


def crops(images: list[Tensor], batch: int, generator: torch.Generator) -> Tensor:
    """Random crops of random scale, half of them mirrored: (B, 3, CROP, CROP)."""
    out = []
    for index in torch.randint(len(images), (batch,), generator=generator).tolist():
        image = images[index]
        short = min(image.shape[1:])
        side = int(short * (0.6 + 0.4 * torch.rand((), generator=generator).item()))
        top = torch.randint(image.shape[1] - side + 1, (), generator=generator)
        left = torch.randint(image.shape[2] - side + 1, (), generator=generator)
        crop = image[:, top : top + side, left : left + side]
        if torch.rand((), generator=generator) < 0.5:
            crop = crop.flip(2)
        out.append(F.interpolate(crop[None], size=(CROP, CROP), mode="bilinear", antialias=True).clamp(0, 1))
    return torch.cat(out)


def example(teacher: nn.Module, image01: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Guidance image, input features, target features."""
    target = teacher(image01)
    side = target.shape[-1]
    reduced = F.interpolate(image01, scale_factor=0.5, mode="bilinear").clamp(0, 1)
    guidance = F.interpolate(image01, size=(4 * side, 4 * side), mode="bilinear")
    return naf.normalize(guidance).contiguous(memory_format=torch.channels_last), teacher(reduced), target


def evaluate(upsampler: nn.Module, teacher: nn.Module, images: list[Tensor]) -> float:
    """Mean squared error over centre crops, divided by that of bilinear."""
    own = other = 0.0
    with torch.inference_mode():
        for image in images:
            side = min(image.shape[1:])
            top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
            crop = image[None, :, top : top + side, left : left + side]
            crop = F.interpolate(crop, size=(CROP, CROP), mode="bilinear", antialias=True).clamp(0, 1)
            guidance, low, target = example(teacher, crop)
            own += F.mse_loss(upsampler(guidance, low, target.shape[2:]), target).item()
            other += F.mse_loss(F.interpolate(low, size=target.shape[2:], mode="bilinear"), target).item()
    return own / other


def main() -> None:
    """Train, evaluate, write the weights and their card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with imagenet-sample/, BSDS500/ and weights/")
    parser.add_argument("--out", type=Path, default=Path("src/naf/assets/naf.safetensors"))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    train = [read_image(path) for path in sorted((args.data / "imagenet-sample").glob("*.JPEG"))]
    held_out = [read_image(path) for path in sorted((args.data / "BSDS500/data/images/train").glob("*.jpg"))][:20]
    teacher = Teacher(args.data / "weights/squeezenet1_0_imagenet.safetensors")
    teacher.calibrate(crops(train, 64, generator))
    hog = naf.backbones.create("hog", stride=STRIDE)
    upsampler = naf.create("naf", weights=None)
    untrained = {"squeezenet": evaluate(upsampler, teacher, held_out), "hog": evaluate(upsampler, hog, held_out)}
    print("untrained, error over bilinear's:", untrained, flush=True)
    optimizer = torch.optim.AdamW(upsampler.parameters(), lr=args.lr, weight_decay=1e-5)
    start, losses = time.monotonic(), []
    for step in track(range(1, args.steps + 1)):
        guidance, low, target = example(teacher, crops(train, args.batch, generator))
        order = torch.randperm(low.shape[1], generator=generator)
        upsampler.train()
        with torch.autocast("cpu", torch.bfloat16):
            prediction = upsampler(guidance, low[:, order], target.shape[2:])
        loss = F.mse_loss(prediction.float(), target[:, order])
        optimizer.zero_grad()
        loss.backward()
        if args.steps - step < args.steps // 4:  # the last quarter anneals: a short run has no time to average out
            optimizer.param_groups[0]["lr"] = args.lr * (args.steps - step + 1) / (args.steps // 4)
        optimizer.step()
        losses.append(loss.item())
        if step % 250 == 0 or step == args.steps:
            upsampler.eval()
            score = {"squeezenet": evaluate(upsampler, teacher, held_out), "hog": evaluate(upsampler, hog, held_out)}
            mean = sum(losses[-250:]) / len(losses[-250:])
            print(
                f"step {step}: loss {mean:.4f}, error over bilinear's {score}, {time.monotonic() - start:.0f} s",
                flush=True,
            )
            args.out.parent.mkdir(parents=True, exist_ok=True)
            temporary = args.out.with_suffix(".partial")
            save_file(upsampler.state_dict(), temporary)
            temporary.rename(args.out)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    card = {
        "command": "python experiments/train_embedded_naf.py --data DATA "
        f"--steps {args.steps} --batch {args.batch} --lr {args.lr} --seed {args.seed}",
        "commit": commit,
        "backbone": "SqueezeNet 1.0 (ImageNet), fire8, stride 8",
        "data": f"{len(train)} ImageNet images, crops of 256 x 256",
        "mse_over_bilinear_untrained": untrained,
        "mse_over_bilinear": score,
        "evaluated_on": "20 BSDS500 images, 2x; hog never seen in training",
        "seconds": round(time.monotonic() - start),
    }
    args.out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main()
