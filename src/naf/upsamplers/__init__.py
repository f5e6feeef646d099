"""Feature upsamplers, one file a method. Importing this package registers them all."""

from naf.upsamplers import interpolation, naf
from naf.upsamplers.base import Attention, Guidance, Upsampler

__all__ = ["Attention", "Guidance", "Upsampler", "interpolation", "naf"]
