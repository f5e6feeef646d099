"""Pictures of features, for eyes and notebooks: PIL images, and matplotlib figures where there are axes."""

from naf.visualization import spectrum
from naf.visualization.attention import attention_image, attention_map
from naf.visualization.heat import heat_colors, heat_image, heat_range, mark, overlay
from naf.visualization.pca import PCAColors, to_image
from naf.visualization.segments import Segments
from naf.visualization.sheet import ColorScale, Panel, comparison_sheet
from naf.visualization.view import FeatureView

__all__ = [
    "ColorScale",
    "FeatureView",
    "PCAColors",
    "Panel",
    "Segments",
    "attention_image",
    "attention_map",
    "comparison_sheet",
    "heat_colors",
    "heat_image",
    "heat_range",
    "mark",
    "overlay",
    "spectrum",
    "to_image",
]
