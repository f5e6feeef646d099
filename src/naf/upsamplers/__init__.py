"""Feature upsamplers, one file a method. Importing this package registers them all."""

from naf.upsamplers import (
    anyup,
    featsharp,
    featup,
    featup_implicit,
    guided,
    interpolation,
    jafar,
    jbf,
    jbu,
    large_image,
    lift,
    loftup,
    naf,
)
from naf.upsamplers.base import Attention, Guidance, Upsampler

__all__ = [
    "Attention",
    "Guidance",
    "Upsampler",
    "anyup",
    "featsharp",
    "featup",
    "featup_implicit",
    "guided",
    "interpolation",
    "jafar",
    "jbf",
    "jbu",
    "large_image",
    "lift",
    "loftup",
    "naf",
]
