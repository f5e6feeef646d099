"""Time, memory and floating-point operations, measured."""

from naf.benchmark.measure import Usage, measure
from naf.benchmark.peers import PeersReport, peers
from naf.benchmark.pixel_cost import PixelCostReport, pixel_cost
from naf.benchmark.quick import QuickReport, quick

__all__ = ["PeersReport", "PixelCostReport", "QuickReport", "Usage", "measure", "peers", "pixel_cost", "quick"]
