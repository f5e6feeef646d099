"""Clips in and out: frames with their times, from video files or folders of images; H.264 files.

PyAV is imported where a video is read or written: `pip install 'naf-upsampler[video]'`.
"""

from naf.data.video.clip import Clip, ClipError
from naf.data.video.open import open_clip
from naf.data.video.work import WorkFolder

__all__ = ["Clip", "ClipError", "WorkFolder", "open_clip"]
