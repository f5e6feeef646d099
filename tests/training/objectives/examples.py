"""What the tests of objectives share: examples of a real photo, upsamplers in training, a few steps of Adam."""

import copy
from functools import lru_cache

import skimage.data
import torch
import torch.nn.functional as F

import naf
from naf.training.example import Example
from tests.helpers import Tiny, small

STRIDE = Tiny.stride


@lru_cache
def photos(side, batch):
    """(batch, 3, side, side): parts of a photo."""
    photo = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None].float() / 255
    parts = torch.cat([photo[:, :, 40 * i : 40 * i + 256, 80:336] for i in range(batch)])
    return F.interpolate(parts, size=(side, side), mode="bilinear", antialias=True)


def extract(image01):
    return Tiny().extract(image01).features


def make_example(*, side=64, batch=2, seed=0, guidance_size=32, **changes):
    """An example of the tiny backbone: grid side / 4, input features of the halved photos."""
    image01 = photos(side, batch)
    half, guidance = (
        F.interpolate(image01, size=(size, size), mode="bilinear", antialias=True)
        for size in (side // 2, guidance_size)
    )
    quadrants = torch.arange(side) * 2 // side
    fields = {
        "image01": image01,
        "guidance": naf.normalize(guidance),
        "features": extract(half),
        "target": extract(image01),
        "stride": STRIDE,
        "extract": extract,
        "segments": (2 * quadrants[:, None] + quadrants).expand(batch, -1, -1),
        "generator": torch.Generator().manual_seed(seed),
        "step": 0,
    }
    return Example(**{**fields, **changes})


def in_training(name, **config):
    """A small upsampler whose parameters learn."""
    return copy.deepcopy(small(name, **config)).requires_grad_().train()


def losses_of_training(objective, upsampler, steps, lr):
    """Losses of steps of Adam on one example."""
    objective.train()
    parameters = [p for p in (*upsampler.parameters(), *objective.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    losses = []
    for step in range(steps):
        torch.manual_seed(0)  # of dropout in the upsampler
        loss = objective(upsampler, make_example(step=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(upsampler, step)
        losses.append(loss.item())
    return losses


def without_gradient(objective, upsampler, **changes):
    """Names of the parameters that a step of training leaves without a gradient."""
    objective.train()(upsampler, make_example(**changes))["loss"].backward()
    named = [*upsampler.named_parameters(), *objective.named_parameters()]
    return {name for name, p in named if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()}
