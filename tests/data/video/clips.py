"""Small clips: a photo seen through a moving window, written and read with PyAV alone."""

from fractions import Fraction

import av
import numpy as np
from skimage import data

FLAT = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (128, 128, 128), (12, 200, 90), (200, 30, 160))


def panned(count, height=64, width=96):
    """(height, width, 3) uint8 frames of a photo, moving 3 pixels a frame."""
    photo = data.astronaut()
    return [np.ascontiguousarray(photo[20 : 20 + height, 120 + 3 * i : 120 + 3 * i + width]) for i in range(count)]


def patches(height=32, side=32):
    """One frame of flat colours, side by side."""
    return np.repeat(np.repeat(np.array([FLAT], dtype=np.uint8), side, axis=1), height, axis=0)


def write_video(path, frames, codec="libx264", pix_fmt="yuv420p", times=None, prepare=lambda stream: None, **options):
    """A video of frames; times in ticks of 1/100 s, or None for 25 frames a second."""
    opened = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(f"file:{path}", "w", options=opened) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        base = Fraction(1, 25) if times is None else Fraction(1, 100)
        stream.codec_context.time_base = base
        prepare(stream)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = (number if times is None else times[number]), base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def decoded(path):
    """Frames (H, W, 3) uint8 and their times in seconds."""
    with av.open(f"file:{path}") as container:
        frames = list(container.decode(video=0))
        return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames]


def difference(actual, expected):
    """Mean absolute difference of pictures with values of 0 … 255."""
    actual, expected = np.asarray(actual, dtype=float), np.asarray(expected, dtype=float)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).mean()
