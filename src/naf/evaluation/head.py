"""The linear layer of a probe, behind or before the upsampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.evaluation.features import Features
from naf.evaluation.images import Example
from naf.evaluation.protocol import ProbeProtocol
from naf.normalization import normalize
from naf.upsamplers.base import Guidance, Upsampler


def make_head(channels: int, outputs: int, seed: int) -> nn.Conv2d:
    """A 1x1 convolution with bias, initialised as PyTorch does from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Conv2d(channels, outputs, 1)


def encode(upsampler: Upsampler, example: Example, grid: tuple[int, int], protocol: ProbeProtocol) -> Guidance:
    """Guidance of a batch for the features' grid; without gradients."""
    size = grid if protocol.upsample == "filter" else (protocol.target_size, protocol.target_size)
    with torch.no_grad():
        return upsampler.encode(normalize(example.guidance01), size, grid)


def predict(
    guidance: Guidance, features: Tensor, head: nn.Conv2d, protocol: ProbeProtocol, *, is_dense: bool = False
) -> Tensor:
    """What the layer gives for each pixel of the target.

    Every upsampler here is linear in the features, so the layer may come first: then K channels are upsampled in place
    of C, which gives the same up to rounding.

    Args:
        guidance: of the images.
        features: (B, C, h, w).
        head: C to K channels.
        protocol: says the target's size.
        is_dense: upsample all channels first, as the definition has it.

    Returns:
        (B, K, T, T), differentiable in the layer's parameters.
    """
    side = protocol.target_size
    if not is_dense:
        return _to_target(guidance.upsample_linear(features, head.weight, head.bias), side)
    with torch.no_grad():
        upsampled = guidance.upsample(features)
        upsampled = _to_target(upsampled, side) if protocol.upsample == "filter" else upsampled
    logits: Tensor = head(upsampled)
    return logits


def advance(optimizer: torch.optim.Optimizer, loss: Tensor, lr: float, where: str) -> None:
    """One step of the training at a learning rate.

    Raises:
        ValueError: if the loss is not finite; says where.
    """
    if not loss.isfinite():
        raise ValueError(f"the loss is {loss.item()} {where}, expected a finite number")
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def joined(heads: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Several layers of one input as one, their outputs one after another; for prediction alone."""
    weight, bias = (torch.cat([head.state_dict()[name] for head in heads]) for name in ("weight", "bias"))
    joint = nn.Conv2d(weight.shape[1], weight.shape[0], 1, device=weight.device).requires_grad_(False)
    joint.load_state_dict({"weight": weight, "bias": bias})
    return joint


def _to_target(values: Tensor, side: int) -> Tensor:
    if values.shape[-2:] == (side, side):
        return values
    return F.interpolate(values, size=(side, side), mode="bilinear", align_corners=False)


def to_device(example: Example, features: Features) -> Example:
    """Images and targets on the features' device."""
    return Example(example.indices, *(part.to(features.device, non_blocking=True) for part in example[1:]))
