"""Frozen sources of features to train on: what makes input and target of a step from its images."""

from naf.training.sources.backbone import BackboneSource
from naf.training.sources.base import FeatureSource
from naf.training.sources.noisy import NoisySource
from naf.training.sources.pixels import PixelSource
from naf.training.sources.segments import SegmentSource

__all__ = ["BackboneSource", "FeatureSource", "NoisySource", "PixelSource", "SegmentSource"]
