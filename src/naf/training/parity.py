"""What a reduced precision of the weights costs, measured on a real photo."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.data.image import read_image
from naf.normalization import normalize
from naf.restoration import Restorer
from naf.training.network import Network

PHOTO = "astronaut"
"""NASA, public domain; scikit-image carries it."""
SIDE = 224
"""Pixels of the square of the photo that is taken."""
_TOP_LEFT = (0, 112)  # face, hair, a flag, a model of a rocket
_STRIDE, _CHANNELS = 16, 96  # of the features, where the method has no say
_NOISE = 0.2  # deviation
_KEPT_BELOW = 1024


def reduced(upsampler: Network, dtype: torch.dtype) -> dict[str, Tensor]:
    """The state dict with its large parameters in another dtype.

    Buffers and parameters of fewer than 1024 values stay as they are: they take next to no space, and among them are
    the frequencies of rotations, which rounding would bend.
    """
    large = {name for name, value in upsampler.named_parameters() if value.numel() >= _KEPT_BELOW}
    return {key: value.to(dtype) if key in large else value for key, value in upsampler.state_dict().items()}


@torch.no_grad()
def parity(upsampler: Network, state: Mapping[str, Tensor]) -> float:
    """How far the outputs of a rounded state dict are from the upsampler's own.

    Args:
        upsampler: float32, in evaluation mode, on the CPU.
        state: as :func:`reduced` gives it; computed with in float32.

    Returns:
        Greatest difference over the greatest magnitude, infinite where an output is not finite.
    """
    inputs = _scene(upsampler)
    own = upsampler(*inputs)
    other = copy.deepcopy(upsampler)
    other.load_state_dict(state)
    difference = (other(*inputs) - own).abs().max() / own.abs().max().clamp(min=torch.finfo(own.dtype).tiny)
    return float(difference.nan_to_num(nan=torch.inf, posinf=torch.inf))


def _scene(upsampler: Network) -> tuple[Tensor, Tensor, tuple[int, int]] | tuple[Tensor]:
    """Photo, features and output size that the upsampler takes; of a restorer the photo with noise.

    The features are the photo's patches under a random projection, standardised channel by channel.
    """
    import skimage.data

    photo = read_image(Path(skimage.data.__file__).parent / f"{PHOTO}.png")
    top, left = _TOP_LEFT
    if isinstance(upsampler, Restorer):
        clean = photo[None, :, top : top + SIDE, left : left + SIDE]
        return (clean + _NOISE * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)),)
    config = upsampler.config or {}
    stride = int(config.get("patch_size", _STRIDE))
    side = SIDE // stride * stride
    image = normalize(photo[None, :, top : top + side, left : left + side])
    channels = upsampler.feature_channels or _CHANNELS
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(channels, 3, stride, stride, generator=generator)
    patches = F.conv2d(image, weight, stride=stride)
    deviation, mean = torch.std_mean(patches, dim=(2, 3), keepdim=True)
    return image, (patches - mean) / deviation, (side, side)
