"""Photos that are changed and written again as they came: bit depth, grey, alpha, colour profile and Exif kept.

:func:`naf.data.read_image` gives what a network needs; this gives what a file needs besides.
"""

from naf.data.photo_file.photo import Photo
from naf.data.photo_file.read import read_photo
from naf.data.photo_file.write import check_suffix, check_target, write_photo

__all__ = ["Photo", "check_suffix", "check_target", "read_photo", "write_photo"]
