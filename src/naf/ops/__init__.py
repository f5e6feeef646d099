"""The heart of NAF: pure functions on tensors, no modules and no configuration."""

from naf.ops.attention import attend_points, neighborhood_attention, neighborhood_scores
from naf.ops.neighborhood import Neighborhood, axis_table, make_neighborhood
from naf.ops.rope import rope_angles, rope_periods, rotate

__all__ = [
    "Neighborhood",
    "attend_points",
    "axis_table",
    "make_neighborhood",
    "neighborhood_attention",
    "neighborhood_scores",
    "rope_angles",
    "rope_periods",
    "rotate",
]
