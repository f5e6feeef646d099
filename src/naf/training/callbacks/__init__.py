"""What a run shows while it trains."""

from naf.training.callbacks.pictures import Pictures
from naf.training.callbacks.report import Report

__all__ = ["Pictures", "Report"]
