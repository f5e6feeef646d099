"""Segments and what is made of them: colours, times, wholeness."""

from fractions import Fraction

import av
import numpy as np
import pytest

from naf.data.video import writer
from naf.data.video.writer import SegmentError, check_encoder, join_segments, write_segment
from tests.data.video.clips import FLAT, decoded, difference, panned, patches

BASE = Fraction(1, 1000)
TIMES = [0, 3, 40, 41, 500, 501, 502, 1700, 1710, 1711, 9000]  # of 10 frames, gaps of any length
PARTS = (slice(0, 4), slice(4, 8), slice(8, 10))


def segments_of(folder, frames):
    made = []
    for number, part in enumerate(PARTS):
        path = folder / f"{number}.mp4"
        write_segment(path, iter(frames[part]))
        made.append((path, part.stop - part.start))
    return made


def test_colours_are_those_of_the_pictures(tmp_path):
    write_segment(tmp_path / "a.mp4", [patches()] * 3)
    for frame in decoded(tmp_path / "a.mp4")[0]:
        for number, color in enumerate(FLAT):
            assert np.abs(frame[16, 32 * number + 16].astype(int) - color).max() <= 3


@pytest.mark.parametrize("base", [BASE, Fraction(1, 12800), Fraction(1001, 30000), Fraction(1, 90000), Fraction(2, 1)])
def test_joined_segments_are_one_video_of_the_same_frames_and_times(tmp_path, base):
    frames = panned(10)
    made = segments_of(tmp_path, frames)
    join_segments(made, tmp_path / "whole.mp4", TIMES, base, {"title": "ü", "comment": "c"})
    whole, seconds = decoded(tmp_path / "whole.mp4")
    parts = [frame for path, _ in made for frame in decoded(path)[0]]
    np.testing.assert_array_equal(whole, parts)
    assert difference(whole, frames) < 4
    np.testing.assert_allclose(seconds, [float(time * base) for time in TIMES[:-1]], rtol=1e-6)
    with av.open(tmp_path / "whole.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 10)
        assert float(stream.duration * stream.time_base) == pytest.approx(float(TIMES[-1] * base))
        assert (container.metadata["title"], container.metadata["comment"]) == ("ü", "c")
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)


def test_a_player_may_jump_to_every_segment(tmp_path):
    join_segments(segments_of(tmp_path, panned(10)), tmp_path / "whole.mp4", TIMES, BASE, {})
    with av.open(tmp_path / "whole.mp4") as container:
        keys = [number for number, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert {0, 4, 8} <= set(keys)
    content = (tmp_path / "whole.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # it plays while it loads


@pytest.mark.parametrize("whole", [0, 1, 3])
def test_a_segment_that_fails_leaves_nothing(tmp_path, whole):
    def pictures():
        yield from panned(whole)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_segment(tmp_path / "a.mp4", pictures())
    assert not list(tmp_path.iterdir())


def test_what_the_encoder_refuses_is_said(tmp_path):
    with pytest.raises(OSError, match=r"a\.mp4 cannot be written: "):
        write_segment(tmp_path / "a.mp4", [np.zeros((3, 5, 3), np.uint8)])  # odd sides
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["short", "empty", "missing"])
def test_a_damaged_segment_is_named_and_no_video_is_made(tmp_path, damage):
    made = segments_of(tmp_path, panned(10))
    path = made[1][0]
    if damage == "short":
        write_segment(path, panned(3))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(SegmentError, match=r"/1\.mp4$"):
        join_segments(made, tmp_path / "whole.mp4", TIMES, BASE, {})
    assert not list(tmp_path.glob("*whole*"))


def test_a_build_without_the_encoder_says_what_to_do(monkeypatch):
    check_encoder()
    monkeypatch.setattr(writer, "_ENCODER", "libnone")
    with pytest.raises(ValueError, match=r"without the H\.264 encoder libnone.*: pip install"):
        check_encoder()
