"""Pictures of features."""

from naf.visualization.pca import PCAColors
from naf.visualization.sheet import Panel, comparison_sheet

__all__ = ["PCAColors", "Panel", "comparison_sheet"]
