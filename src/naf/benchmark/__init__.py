"""Time and memory, measured."""

from naf.benchmark.measure import Usage, measure
from naf.benchmark.peers import PeersReport, peers
from naf.benchmark.quick import QuickReport, quick

__all__ = ["PeersReport", "QuickReport", "Usage", "measure", "peers", "quick"]
