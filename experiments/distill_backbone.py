r"""Trains the backbone that the package carries, by distillation from three pretrained networks at once.

The student starts from random numbers and sees crops of photos; 1x1 heads on its features predict six maps of the
teachers on the very same crops. Heads and teachers are thrown away, norms are folded into the convolutions, and the
features are brought to zero mean and unit variance.

    python experiments/distill_backbone.py --data ../shared/data --work out/distill
    naf eval segmentation --config-dir experiments/configs experiment=eval_camvid upsampler=bilinear \
        folder=out/distill/probe
    python experiments/distill_backbone.py --data ../shared/data --work out/distill --probe out/distill/probe

The first command trains, and goes on from the checkpoint in the work folder if it was stopped; the last one only
writes the card anew, with the probe's result.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parents[1]))

import naf
from experiments.distill_card import probe_table, write
from experiments.distill_teachers import Projection, Teachers
from naf.backbones.embedded import CHANNELS, WEIGHTS, EmbeddedNetwork
from naf.data.atomic import replace_file

CROP = 224
MIXED = 0.25  # share of crops blended with another one of the batch
# Share of the crops that comes from each folder. BSDS500 and CamVid: training images; DAVIS: three of its sequences.
SHARES = {
    "imagenet-sample/*.JPEG": 0.5,
    "CamVid/train/*.jpg": 0.25,
    "BSDS500/data/images/train/*.jpg": 0.15,
    "DAVIS/JPEGImages/480p/car-shadow/*.jpg": 0.04,
    "DAVIS/JPEGImages/480p/dog/*.jpg": 0.03,
    "DAVIS/JPEGImages/480p/horsejump-high/*.jpg": 0.03,
}


class Distillation(nn.Module):
    """The student with norms behind its convolutions, and the heads that predict the teachers' maps."""

    def __init__(self, projections: nn.ModuleDict) -> None:
        super().__init__()
        self.student = EmbeddedNetwork()
        with_norms(self.student)
        sizes = {name: int(projection.components) for name, projection in projections.items()}  # type: ignore[arg-type]
        self.coarse_heads = nn.ModuleDict(
            {name: nn.Conv2d(CHANNELS[16], size, 1) for name, size in sizes.items() if name != "fire8"}
        )
        self.fine_heads = nn.ModuleDict({name: nn.Conv2d(CHANNELS[8], size, 1) for name, size in sizes.items()})
        self.to(memory_format=torch.channels_last)

    def forward(self, image01: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Mean loss over the maps. Stride 8 predicts those of stride 16 too, averaged over 2 x 2 cells."""
        with torch.autocast("cpu", torch.bfloat16):
            coarse, fine = features(self.student, image01)
            pooled = F.avg_pool2d(fine, 2)
            losses = [difference(head(coarse), targets[name]) for name, head in self.coarse_heads.items()]
            for name, head in self.fine_heads.items():
                losses.append(difference(head(fine if name == "fire8" else pooled), targets[name]))
        return torch.stack(losses).mean()


def features(student: EmbeddedNetwork, image01: Tensor) -> tuple[Tensor, Tensor]:
    """Features at stride 16 and at stride 8."""
    image = naf.normalize(image01).contiguous(memory_format=torch.channels_last)
    middle, deep = student.trunk(image)
    return student.coarse_features(deep), student.fine_features(middle, deep)


def difference(prediction: Tensor, target: Tensor) -> Tensor:
    """One less the cosine of the cells' vectors, plus half the mean squared error."""
    prediction = prediction.float()
    return 1 - F.cosine_similarity(prediction, target, dim=1).mean() + 0.5 * F.mse_loss(prediction, target)


class Normed(nn.Sequential):
    """A convolution and its batch norm."""

    def folded(self) -> nn.Conv2d:
        """The same in evaluation mode as one convolution."""
        return fuse_conv_bn_eval(*self.eval())  # type: ignore[no-any-return]


def with_norms(module: nn.Module) -> None:
    """Put a batch norm behind each convolution, in place; branches of residual blocks begin at zero."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            norm = nn.BatchNorm2d(child.out_channels)
            if name == "project":
                nn.init.zeros_(norm.weight)
            nn.init.kaiming_normal_(child.weight, nonlinearity="relu")
            setattr(module, name, Normed(child, norm))
        else:
            with_norms(child)


def without_norms(module: nn.Module) -> None:
    """Fold the batch norms into the convolutions, in place."""
    for name, child in module.named_children():
        if isinstance(child, Normed):
            setattr(module, name, child.folded())
        else:
            without_norms(child)


@torch.no_grad()
def standardize_features(student: EmbeddedNetwork, batches: list[Tensor]) -> None:
    """Bring both feature maps to zero mean and unit variance over these images, by their last convolutions."""
    maps = [features(student, batch) for batch in batches]
    for index, layers in enumerate(((student.coarse,), (student.fine, student.context))):
        values = torch.cat([pair[index].transpose(0, 1).flatten(1) for pair in maps], dim=1)
        mean, std = values.mean(1), values.std(1)
        for layer in layers:
            assert layer.bias is not None
            layer.weight /= std[:, None, None, None]
            layer.bias /= std
        assert layers[0].bias is not None
        layers[0].bias -= mean / std


class Crops:
    """Random crops of the photos: a function of seed and step alone, so a resumed run sees the same."""

    def __init__(self, data: Path, seed: int) -> None:
        self.seed = seed
        self.train: dict[str, list[Tensor]] = {}
        self.held_out: list[Tensor] = []
        for pattern in SHARES:
            paths = sorted(data.glob(pattern))
            if not paths:
                raise ValueError(f"data has no {pattern} in {data}")
            images = [decode_image(str(path), mode=ImageReadMode.RGB) for path in paths]
            self.held_out += images[::20] if pattern.startswith("imagenet") else []
            self.train[pattern] = (
                [image for i, image in enumerate(images) if i % 20] if pattern.startswith("imagenet") else images
            )
        self.augment = v2.Compose(
            [
                v2.RandomResizedCrop(CROP, scale=(0.1, 0.8)),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4)], 0.8),
                v2.RandomGrayscale(0.05),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def batch(self, step: int, size: int) -> Tensor:
        """(size, 3, CROP, CROP), values from 0 to 1."""
        torch.manual_seed(1_000_003 * self.seed + step)
        folders = list(self.train.values())
        crops = []
        for chosen in torch.multinomial(torch.tensor(list(SHARES.values())), size, replacement=True).tolist():
            images = folders[chosen]
            crops.append(self.augment(images[int(torch.randint(len(images), ()))]))
        batch = torch.stack(crops)
        share = torch.where(torch.rand(size) < MIXED, torch.rand(size), torch.zeros(size))[:, None, None, None]
        return batch.lerp(batch.roll(1, 0), share)

    def held_out_batch(self) -> Tensor:
        """Centre crops of photos that are never trained on."""
        crop = v2.Compose([v2.Resize(CROP), v2.CenterCrop(CROP), v2.ToDtype(torch.float32, scale=True)])
        return torch.stack([crop(image) for image in self.held_out])


def optimizer_of(network: nn.Module, lr: float) -> torch.optim.Optimizer:
    """AdamW; norms and biases do not decay."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr)


def rate(step: int, steps: int) -> float:
    """Share of the learning rate: 100 steps of warm-up, constant, and the last quarter falls to zero.

    So a run may be resumed with other --steps before its last quarter, and ends as if begun with them.
    """
    return min(1.0, (step + 1) / 100, (steps - step) / (0.25 * steps))


def main() -> None:
    """Train, fold, write the weights and their card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the images of SHARES and weights/")
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--probe", type=Path, help="folder of `naf eval segmentation`'s results, for the card")
    args = parser.parse_args()
    probed = {} if args.probe is None else probe_table(args.probe)
    args.work.mkdir(parents=True, exist_ok=True)

    crops = Crops(args.data, args.seed)
    teachers = Teachers(args.data / "weights")
    projections = Projection.fit(teachers(crops.batch(-1 - i, 16)) for i in range(16))

    @torch.no_grad()
    def targets(image01: Tensor) -> dict[str, Tensor]:
        maps = teachers(image01)
        return {name: project(maps[name.replace("_", ".")]) for name, project in projections.items()}

    torch.manual_seed(args.seed)
    network = Distillation(projections)
    optimizer = optimizer_of(network, args.lr)
    held_out = crops.held_out_batch()
    held_out_targets = targets(held_out)
    first, seconds, curve = 0, 0.0, []
    checkpoint = args.work / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        first, seconds, curve = saved["step"], saved["seconds"], saved["curve"]
        print(f"resumed at step {first}", flush=True)
    start, mean = time.monotonic() - seconds, math.nan
    for step in range(first, args.steps):
        network.train()
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate(step, args.steps)
        image01 = crops.batch(step, args.batch)
        loss = network(image01, targets(image01))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"loss is {loss.item()} at step {step}; the last good checkpoint is {checkpoint}")
        mean = loss.item() if math.isnan(mean) else 0.98 * mean + 0.02 * loss.item()
        done = step + 1
        if done % 100 == 0 or done == args.steps:
            network.eval()
            with torch.no_grad():
                test = network(held_out, held_out_targets).item()
            seconds = time.monotonic() - start
            curve.append([done, round(mean, 4), round(test, 4)])
            left = seconds / done * (args.steps - done)
            print(f"step {done}: loss {mean:.4f}, held out {test:.4f}, {seconds:.0f} s, {left:.0f} s left", flush=True)
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": done,
                "seconds": seconds,
                "curve": curve,
            }
            replace_file(checkpoint, lambda path, state=state: torch.save(state, path))  # type: ignore[misc]

    student = network.student.eval()
    without_norms(student)
    standardize_features(student, [crops.batch(-1 - i, 16) for i in range(16)])
    training = {
        "data": "; ".join(f"{pattern}: {len(images)}" for pattern, images in crops.train.items()),
        "command": "python experiments/distill_backbone.py --data DATA --work WORK "
        f"--steps {args.steps} --batch {args.batch} --lr {args.lr} --seed {args.seed}",
        "steps": f"{args.steps} of {args.batch} crops of {CROP} x {CROP} pixels",
        "seconds": f"{seconds:.0f} on one thread of a shared machine",
    }
    losses = [{"step": step, "loss": loss, "held out": test} for step, loss, test in curve if step % 500 == 0]
    write(args.out, student, training, {**probed, f"Loss (held out: {len(held_out)} ImageNet photos)": losses})


if __name__ == "__main__":
    main()
