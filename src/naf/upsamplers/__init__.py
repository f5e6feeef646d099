"""Feature upsamplers, one file a method. Importing this package registers them all."""

from naf.upsamplers import anyup, interpolation, jafar, large_image, lift, loftup, naf
from naf.upsamplers.base import Attention, Guidance, Upsampler

__all__ = ["Attention", "Guidance", "Upsampler", "anyup", "interpolation", "jafar", "large_image", "lift", "loftup", "naf"]
