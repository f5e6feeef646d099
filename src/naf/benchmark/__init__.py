"""Time and memory, measured."""

from naf.benchmark.measure import Usage, measure
from naf.benchmark.quick import QuickReport, quick

__all__ = ["QuickReport", "Usage", "measure", "quick"]
