"""Reading what users have: photos, videos, data sets of labels and depth."""

from naf.data.image import ImageError, read_image

__all__ = ["ImageError", "read_image"]
