"""Video files as clips, through FFmpeg's libraries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from naf.data.video.clip import Clip, ClipError
from naf.data.video.libav import as_url, import_av

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

_FINEST_BASE = 1_000_000  # ticks a second that MP4 and players are at ease with
_FALLBACK_BASE = Fraction(1, 90_000)
_UNSPECIFIED = 2  # colour matrix, as FFmpeg numbers them
# PyAV 18 frees the name of an ICC profile twice, and with it the process, once a frame's side data was asked for; of
# FFmpeg's decoders those of PNG alone give it one.
_NEVER_TURNED = ("apng", "png")
_HD_ROWS = 720  # from here on a video that does not name its matrix is in BT.709, below in BT.601


@dataclass(frozen=True)
class VideoFile(Clip):
    """A video file; see :func:`open_video`."""

    def read(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Some of the frames; see :meth:`Clip.read`. Everything before them is decoded too, so that they are exact."""
        wanted = iter(indices)
        index = next(wanted, None)
        if index is None:
            return
        with _decoder(self.path) as decoder:
            for number, frame in enumerate(decoder.frames()):
                if number != index:
                    continue
                yield torch.from_numpy(_to_rgb(frame, decoder.stream)).permute(2, 0, 1).float() / 255
                index = next(wanted, None)
                if index is None:
                    return
        raise ClipError(f"{self.path}: has no frame {index} any more: was it changed meanwhile?")


def open_video(path: Path, on_progress: Callable[[float], object] = lambda _: None) -> VideoFile:
    """Decode a video once, so that its frames are counted and known to be whole.

    Rotation, mirroring and pixels that are not square are resolved; frames that name no time follow at the file's
    rate.

    Args:
        path: any video that FFmpeg reads; its first or main video stream is taken.
        on_progress: called with the share done, 0 … 1.

    Raises:
        ClipError: if the file is missing, is no video, holds no frame, or ends before it should.
        ValueError: without PyAV.
    """
    import_av()
    if not path.is_file():
        raise ClipError(f"{path}: no such file or folder")
    total = max(1, path.stat().st_size)
    times: list[int] = []
    coded: tuple[int, int] | None = None
    size: tuple[int, ...] = ()
    length = damaged = 0
    with _decoder(path) as decoder:
        stream = decoder.stream
        gap = 1 / (stream.average_rate or stream.base_rate or Fraction(25))
        base = stream.time_base if stream.time_base and stream.time_base.denominator <= _FINEST_BASE else _FALLBACK_BASE
        for frame in decoder.frames(lambda position: on_progress(min(1.0, position / total))):
            if coded is None:
                coded, size = (frame.height, frame.width), _to_rgb(frame, stream).shape[:2]
            elif (frame.height, frame.width) != coded:
                raise ClipError(
                    f"{path}: frame {len(times)} has {frame.height}x{frame.width} pixels, expected "
                    f"{coded[0]}x{coded[1]} as the first"
                )
            ticks = frame.time_base / base if frame.time_base else Fraction(1)
            due = times[-1] + length if times else 0
            time = due if frame.pts is None else round(frame.pts * ticks)
            times.append(max(time, times[-1] + 1) if times else time)
            length = max(1, round(frame.duration * ticks if frame.duration else gap / base))
            damaged += frame.is_corrupt
        on_progress(1.0)
        declared, lost = stream.frames, decoder.lost
        planned = float((stream.duration or 0) * (stream.time_base or 0))
    if not times:
        raise ClipError(f"{path}: its video stream holds no frame{' that is whole' if lost else ''}")
    end = times[-1] + length - times[0]
    # Both must say so: a video that was trimmed without encoding it again holds frames that are not shown.
    if len(times) < declared and end * base < planned - 2 * gap:
        raise ClipError(
            f"{path}: cut off or damaged: {len(times)} of {declared} frames can be read; "
            "`ffmpeg -i IN -c copy OUT` makes a video of those"
        )
    bad = [f"{lost} cannot be read" if lost else "", f"{damaged} are damaged" if damaged else ""]
    note = f"{path}: of its frames {' and '.join(filter(None, bad))}" if lost or damaged else ""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    starts = (*(time - times[0] for time in times), end)
    return VideoFile(path, (size[0], size[1]), base, starts, digest, note)


class _Decoder:
    """The main video stream of an open file.

    Attributes:
        stream: of the video.
        lost: packets so far that could not be decoded and were passed over.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.stream, self.lost, self._container = stream, 0, container
        stream.thread_type = "SLICE"  # threads over frames would report damage late, with frames that are whole

    def frames(self, on_position: Callable[[int], object] = lambda _: None) -> Iterator[VideoFrame]:
        """All frames that can be decoded, in order."""
        av = import_av()
        packets = self._container.demux(self.stream)
        packet: Packet[VideoStream] | None = None
        while True:
            try:
                packet = next(packets, None)
                frames = [] if packet is None else packet.decode()
            except av.FFmpegError:
                self.lost, frames = self.lost + 1, []
            yield from frames
            if packet is None:
                return
            if packet.pos is not None:  # as that of the last one, which is empty
                on_position(packet.pos)


@contextmanager
def _decoder(path: Path) -> Iterator[_Decoder]:
    """A file, opened and found to hold a video."""
    av = import_av()
    # Only files: a playlist that calls itself a video shall not fetch anything.
    try:
        container = av.open(as_url(path), options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClipError(f"{path}: is no video that can be read, or is cut off: {reason}") from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise ClipError(f"{path}: holds no video stream")
        yield _Decoder(container, stream)


def _to_rgb(frame: VideoFrame, stream: VideoStream) -> np.ndarray:
    """(H, W, 3) uint8, as it is to be seen."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    guessed = "ITU709" if frame.colorspace == _UNSPECIFIED and frame.height >= _HD_ROWS else None
    array = frame.to_ndarray(
        format="rgb24",
        width=max(1, round(frame.width * aspect)),
        src_colorspace=None if frame.format.is_rgb else guessed,
    )
    name = "" if stream.codec_context is None else stream.codec_context.name
    return np.ascontiguousarray(array if name in _NEVER_TURNED else _turn(array, frame))


def _turn(array: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """(H, W, 3) turned and mirrored as the file's display matrix says.

    The matrix takes (x, y) to (a x + c y, b x + d y), y downwards; it is stored as a, b, u, c, d, v, …
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return array
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    if abs(a) < abs(b):
        array, down, right = array.swapaxes(0, 1), b, c
    else:
        down, right = d, a
    return array[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
