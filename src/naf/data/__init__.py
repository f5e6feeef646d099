"""Reading what users have: images now, datasets later."""

from naf.data.image import ImageError, read_image

__all__ = ["ImageError", "read_image"]
