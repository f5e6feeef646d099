"""Figures that the authors of NAF publish, for the side-by-side: an NVIDIA A100 with 40 GB, float32.

Times, memory and GFLOPs are those behind Figures 12 and 13 of arXiv 2511.18452, from `test/test_results.json` of its
repository (github.com/valeoai/NAF); largest ratios are from Table 1. Features (1, D, 28, 28), image 448 x 448. The
counter of GFLOPs was given an image of the output's size; neighborhood attention and fused attention are not in them.
"training" is forward, backward and an SGD step. MiB are those of the allocator, weights and inputs included.
"""

from __future__ import annotations

from typing import NamedTuple

from naf.benchmark.point import Point

DEVICE = "A100 40 GB, float32"


class Published(NamedTuple):
    """One measurement; None where none was published.

    Attributes:
        gflops: 2 a multiply-add.
        parameters: learned values.
        forward_ms: forward time.
        training_ms: forward, backward and step.
        forward_mib: peak memory of the forward pass.
        training_mib: peak memory of forward, backward and step.
    """

    gflops: float | None
    parameters: int | None
    forward_ms: float
    training_ms: float | None
    forward_mib: float | None
    training_mib: float | None


# fmt: off
_BY_RATIO = {  # Figure 13, D = 384
    "featup": {
        2: Published(0.98, 173540, 8.870912, 14.882304, 52.38, 74.09),
        4: Published(4.88, 173540, 10.212659, 22.538547, 180.35, 284.56),
        8: Published(20.50, 173540, 18.657178, 45.861990, 677.52, 1099.72),
        16: Published(82.97, 173540, 57.109504, 171.858228, 2673.83, 4929.11),
    },
    "anyup": {
        2: Published(7.74, 878080, 11.235226, 38.561280, 315.98, 719.75),
        4: Published(23.01, 878080, 18.281574, 50.124697, 400.47, 1347.67),
        8: Published(84.11, 878080, 51.705651, 133.391360, 1552.49, 4812.09),
        16: Published(328.50, 878080, 181.956609, 502.506192, 6162.59, 18675.29),
        32: Published(None, None, 744.272083, None, 24594.02, None),
    },
    "jafar": {
        2: Published(6.05, 628480, 57.254605, 106.851736, 604.26, 5923.12),
        4: Published(23.22, 628480, 58.664141, 124.415592, 604.26, 6525.77),
        8: Published(91.87, 628480, 64.862413, 220.743989, 1439.94, 8943.22),
        16: Published(366.47, 628480, 108.141977, 489.506000, 5410.94, 18613.05),
        32: Published(None, None, 582.697070, None, 21285.80, None),
    },
    "naf": {
        2: Published(4.14, 662528, 39.513908, 88.292659, 604.98, 3670.42),
        4: Published(16.57, 662528, 40.170496, 102.527796, 604.98, 3684.27),
        8: Published(66.28, 662528, 42.510439, 112.663655, 604.98, 4028.77),
        16: Published(265.12, 662528, 56.241766, 163.075171, 1786.52, 6016.48),
        32: Published(1060.49, 662528, 267.944962, None, 7101.49, None),
    },
}
_BY_CHANNELS = {  # Figure 12, ratio 16; a run of its own: its values at D = 384 differ from those above
    "featup": {
        128: Published(12.96, 41700, 44.057805, 117.686886, 2558.69, 3292.90),
        384: Published(82.97, 173540, 79.571660, 168.519371, 2673.83, 4926.61),
        768: Published(319.01, 617060, 91.205427, 236.789557, 2848.23, 6611.20),
        1024: Published(563.72, 1076580, 115.101184, 288.535754, 2965.61, 9704.04),
    },
    "anyup": {
        128: Published(246.65, 878080, 179.089816, 492.871991, 6161.83, 18375.39),
        384: Published(328.50, 878080, 182.373581, 493.956909, 6162.62, 18675.31),
        768: Published(451.27, 878080, 190.718669, 495.348840, 6163.74, 19123.01),
        1024: Published(533.12, 878080, 197.642342, 541.674496, 6164.90, 19421.91),
    },
    "jafar": {
        128: Published(285.80, 562688, 103.970201, 472.802716, 5408.40, 18415.26),
        384: Published(366.47, 628480, 104.385638, 495.504486, 5410.18, 18613.05),
        768: Published(487.47, 727168, 130.610995, 490.327139, 5412.85, 18909.72),
        1024: Published(568.14, 792960, 140.854272, 491.764941, 5414.63, 19107.51),
    },
    "naf": {
        128: Published(265.12, 662528, 50.801562, 132.395419, 1197.75, 5139.84),
        384: Published(265.12, 662528, 60.107775, 151.195137, 1786.52, 6016.48),
        768: Published(265.12, 662528, 88.825344, 201.987173, 2669.67, 7487.63),
        1024: Published(265.12, 662528, 104.489368, 222.735052, 3258.43, 8468.40),
    },
}
# fmt: on

# Table 1, in 40 GB
_MAX_RATIO = {"featup": 16, "lift": 16, "jbu": 28, "loftup": 32, "anyup": 32, "jafar": 32, "naf": 72}


def published(axis: str, point: Point) -> Published | None:
    """What was published for a point of a sweep; None where nothing was, or for other sizes than the authors'.

    Args:
        axis: "ratio" or "channels": which of their two runs.
        point: its dtype and device do not matter.
    """
    if (point.grid, point.image_side) != (28, 448):
        return None
    if axis == "ratio" and point.channels == 384:
        return _BY_RATIO.get(point.upsampler, {}).get(point.ratio)
    if axis == "channels" and point.ratio == 16:
        return _BY_CHANNELS.get(point.upsampler, {}).get(point.channels)
    return None


def published_max_ratio(point: Point) -> int | None:
    """The largest ratio that was published for an upsampler; None for other features than the authors'."""
    return _MAX_RATIO.get(point.upsampler) if (point.grid, point.channels) == (28, 384) else None
