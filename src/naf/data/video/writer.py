"""Pictures to H.264 in MP4, segment by segment: what is finished is never encoded again.

A segment begins with a key frame and has no frames that point forwards, so segments put end to end are one video. It
is encoded as if its frames came evenly: x264 gives frames that are shown briefly fewer bits. Their true times are set
when all is put together; any ascending ones will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from naf.data.atomic import replace_file
from naf.data.video.libav import as_url, import_av

_ENCODER = "libx264"
# The same pictures shall give the same file: x264's analysis over coming frames (mbtree) and the number of its threads
# change bits from run to run. Within a few frames it gains nothing.
_OPTIONS = {"preset": "medium", "crf": "20", "bf": "0", "x264-params": "mbtree=0"}
_NOMINAL_RATE = 25
_BT709, _LIMITED = 1, 1  # primaries, transfer and matrix; range: what browsers expect


class SegmentError(ValueError):
    """A finished segment that does not hold what was written to it."""


def check_encoder() -> None:
    """Refuse to begin where the end could not be written.

    Raises:
        ValueError: without PyAV, or if it was built without the H.264 encoder.
    """
    av = import_av()
    if _ENCODER not in av.codecs_available:
        raise ValueError(
            f"this PyAV ({av.__version__}) was built without the H.264 encoder {_ENCODER}, which the wheels have: "
            "pip install --force-reinstall --only-binary av av"
        )


def write_segment(path: Path, pictures: Iterable[np.ndarray]) -> None:
    """Encode some pictures into a file of their own, whole or not at all; when they appear is said on joining.

    Args:
        path: of the file.
        pictures: (H, W, 3) uint8, H and W even, at least one.

    Raises:
        OSError: if it cannot be encoded or written; likewise whatever `pictures` raises.
    """
    av = import_av()

    def write(temporary: Path) -> None:
        with av.open(as_url(temporary), "w", format="mp4") as container:
            stream = container.add_stream(_ENCODER, rate=_NOMINAL_RATE, options=_OPTIONS)
            stream.pix_fmt, context = "yuv420p", stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = _BT709
            context.color_range = _LIMITED
            context.thread_count = 1
            for number, picture in enumerate(pictures):
                if not number:
                    stream.height, stream.width = picture.shape[:2]
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                    format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
                )
                frame.pts, frame.time_base = number, 1 / Fraction(_NOMINAL_RATE)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

    _write_whole(path, write)


def join_segments(
    segments: Sequence[tuple[Path, int]],
    path: Path,
    times: Sequence[int],
    time_base: Fraction,
    metadata: Mapping[str, str],
) -> None:
    """Put segments end to end, as they are, into one file that plays while it loads.

    Args:
        segments: their files, in order, and the number of pictures of each.
        path: of the file; made whole or not at all.
        times: ticks at which each picture appears, ascending from 0, and at which the last ends.
        time_base: seconds a tick.
        metadata: title, comment, … of the file.

    Raises:
        SegmentError: names the first segment that is damaged.
        OSError: if the file cannot be written.
    """
    av = import_av()

    def write(temporary: Path) -> None:
        out, number = None, 0
        with av.open(as_url(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
            container.metadata.update(metadata)
            for segment, count in segments:
                try:
                    with av.open(as_url(segment)) as source:
                        stream = source.streams.video[0]
                        packets = [packet for packet in source.demux(stream) if packet.size]
                        if out is None:
                            out = container.add_stream_from_template(stream)
                            out.time_base = time_base
                except (av.FFmpegError, OSError, IndexError) as error:
                    raise SegmentError(str(segment)) from error
                if len(packets) != count:
                    raise SegmentError(str(segment))
                for packet in packets:
                    packet.stream, packet.time_base = out, time_base
                    packet.pts = packet.dts = times[number]
                    packet.duration = times[number + 1] - times[number]
                    container.mux(packet)
                    number += 1

    _write_whole(path, write)


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    av = import_av()
    try:
        replace_file(path, write)
    except av.FFmpegError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from error
