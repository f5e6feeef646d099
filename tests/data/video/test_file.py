"""Video files as clips: frames, times, orientation, colours; files that are broken."""

import gc
import struct
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from naf.data.video import ClipError, open_clip
from tests.data.video.clips import FLAT, difference, panned, patches, write_video

# (x, y) goes to (a x + c y, b x + d y), y downwards.
TURNS = {
    "as a telephone held upright": ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
    "upside down": ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
    "the other way": ((0, -1, 1, 0), np.rot90),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
}


def pixels(clip, indices=None):
    """Frames as (H, W, 3), 0 … 255."""
    read = clip.read(range(len(clip)) if indices is None else indices)
    return [(255 * frame).permute(1, 2, 0).numpy() for frame in read]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"crf": "10"}),
        ("a.mkv", "libx264", {"crf": "10"}),
        ("a.avi", "mpeg4", {"qmin": "2", "qmax": "3"}),
        ("a.webm", "libvpx-vp9", {"crf": "10", "deadline": "realtime", "cpu-used": "8"}),
        ("a.h264", "libx264", {"crf": "10"}),
        ("12:30 %d.ts", "libx264", {"crf": "10"}),
    ],
)
def test_every_container_gives_its_frames_in_order_and_on_time(tmp_path, name, codec, options):
    frames = panned(11)
    clip = open_clip(write_video(tmp_path / name, frames, codec, **options))
    assert (len(clip), clip.frame_size, clip.note) == (11, (64, 96), "")
    seconds = [float(time * clip.time_base) for time in clip.times]
    np.testing.assert_allclose(seconds, np.arange(12) / 25, atol=2e-3)
    for actual, expected, next_one in zip(pixels(clip), frames, [*frames[1:], frames[0]], strict=True):
        assert difference(actual, expected) < min(6, 0.5 * difference(actual, next_one))


def test_chosen_frames_are_those_of_the_whole(tmp_path):
    clip = open_clip(write_video(tmp_path / "a.mp4", panned(20)))
    everything = pixels(clip)
    for indices in ([0], [19], [3, 4, 11], range(5, 20, 7), []):
        chosen = pixels(clip, indices)
        assert len(chosen) == len(indices)
        assert all(np.array_equal(frame, everything[index]) for frame, index in zip(chosen, indices, strict=True))


def test_irregular_times_are_kept_and_begin_at_zero(tmp_path):
    times = [50, 54, 55, 90, 91, 140]
    clip = open_clip(write_video(tmp_path / "a.mp4", panned(6), times=times))
    assert [float(time * clip.time_base) for time in clip.times[:-1]] == pytest.approx([(t - 50) / 100 for t in times])
    assert clip.times[-1] > clip.times[-2]


@pytest.mark.parametrize("name", TURNS)
def test_frames_are_turned_as_the_file_says(tmp_path, name):
    (a, b, c, d), turn = TURNS[name]
    path = write_video(tmp_path / "a.mp4", panned(2))
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44  # of the matrix in a track's header of version 0 (ISO/IEC 14496-12)
    assert content[start : start + 4] == (1 << 16).to_bytes(4)
    content[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    clip = open_clip(path)
    expected = turn(panned(1)[0])
    assert clip.frame_size == expected.shape[:2]
    assert difference(pixels(clip)[0], expected) < 8


@pytest.mark.parametrize("name", ["a.png", "a.apng", "a.jpg", "a.gif"])
def test_pictures_with_a_colour_profile_are_read_and_let_go(tmp_path, name):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frames = [Image.fromarray(frame) for frame in panned(2)]
    kind = {"a.apng": {"format": "PNG"}, "a.jpg": {}}.get(name, {})
    more = {} if name in ("a.png", "a.jpg") else {"save_all": True, "append_images": frames[1:]}
    frames[0].save(tmp_path / name, icc_profile=profile, **kind, **more)
    clip = open_clip(tmp_path / name)
    assert [frame.shape for frame in pixels(clip)] == (2 if more else 1) * [(64, 96, 3)]
    gc.collect()  # PyAV once brought the process down here


def test_pixels_that_are_not_square_become_so(tmp_path):
    def widen(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)

    clip = open_clip(write_video(tmp_path / "a.mp4", panned(2), prepare=widen))
    assert clip.frame_size == (64, 144)
    assert pixels(clip)[0].shape == (64, 144, 3)


@pytest.mark.parametrize(("height", "matrix"), [(720, "ITU709"), (480, "ITU601")])
def test_colours_are_right_where_the_file_does_not_name_its_matrix(tmp_path, height, matrix):
    frame = patches(height)
    with av.open(tmp_path / "a.mkv", "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], "yuv444p"
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture = picture.reformat(format="yuv444p", dst_colorspace=matrix)
        picture.colorspace = 2  # unspecified
        container.mux([*stream.encode(picture), *stream.encode(None)])
    seen = pixels(open_clip(tmp_path / "a.mkv"))[0]
    for number, color in enumerate(FLAT):
        assert np.abs(seen[height // 2, 32 * number + 16] - color).max() < 5


def test_grey_ten_bit_and_coloured_by_palette_are_read(tmp_path):
    frames = panned(3)
    ten = open_clip(write_video(tmp_path / "ten.mkv", frames, pix_fmt="yuv420p10le", crf="5"))
    assert difference(pixels(ten)[2], frames[2]) < 6
    grey = open_clip(write_video(tmp_path / "grey.mkv", frames, "ffv1", "gray"))
    luma = frames[2] @ np.array([0.299, 0.587, 0.114])
    assert difference(pixels(grey)[2], np.repeat(luma[..., None], 3, axis=2)) < 2
    gif = open_clip(write_video(tmp_path / "a.gif", frames, "gif", "rgb8"))
    assert len(gif) == 3
    assert difference(pixels(gif)[2], frames[2]) < 30


def test_the_hash_is_of_the_content(tmp_path):
    first, other = (write_video(tmp_path / f"{n}.mp4", panned(n)) for n in (2, 3))
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(first.read_bytes())
    assert open_clip(first).digest == open_clip(copy).digest != open_clip(other).digest


def test_progress_reaches_the_end(tmp_path):
    shares = []
    open_clip(write_video(tmp_path / "a.mp4", panned(30)), on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[0] < shares[-2] <= shares[-1] == 1


def broken(path, hole=None, end=None):
    """A video of 24 frames, each of some 3 kB, with random bytes at a share of it, or cut there."""
    content = bytearray(write_video(path, panned(24), crf="4", g="6", bf="0").read_bytes())
    if hole is not None:
        start = int(hole * len(content))
        content[start : start + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(content if end is None else content[: int(end * len(content))])
    return path


def test_a_video_that_is_cut_off_is_refused(tmp_path):
    with pytest.raises(ClipError, match=r"a\.mp4: cut off or damaged: 1\d of 24 frames can be read; `ffmpeg"):
        open_clip(broken(tmp_path / "a.mp4", end=0.6))


def test_a_video_without_its_index_is_refused(tmp_path):
    with pytest.raises(ClipError, match=r"a\.mov: is no video that can be read, or is cut off: Invalid data"):
        open_clip(broken(tmp_path / "a.mov", end=0.6))


def test_damage_is_noted_and_the_rest_is_read(tmp_path):
    path = broken(tmp_path / "a.mp4", hole=0.6)
    clip = open_clip(path)
    assert 22 <= len(clip) <= 24
    assert clip.note.startswith(f"{path}: of its frames ")
    seen, expected = pixels(clip), panned(24)
    assert len(seen) == len(clip)
    assert difference(seen[0], expected[0]) < 4
    assert difference(seen[-1], expected[-1]) < 4


def test_a_trimmed_video_is_not_taken_for_a_damaged_one(tmp_path):
    # What lies before time 0 stays in the file, and its edit list leaves it out.
    path = write_video(tmp_path / "a.mp4", panned(6), times=[-20, -10, 0, 10, 20, 30], g="2", bf="0")
    with av.open(path) as container:
        assert container.streams.video[0].frames == 6
    clip = open_clip(path)
    assert (len(clip), clip.note) == (4, "")
    assert difference(pixels(clip)[0], panned(3)[2]) < 8


def no_video(folder):
    path = folder / "sound.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000), file.writeframes(bytes(1600))
    return path


def no_frames(folder):
    path = folder / "empty.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()
    return path


def no_network(folder):
    path = folder / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    return path


def text(folder):
    path = folder / "text.mp4"
    path.write_text("no video at all\n" * 100)
    return path


def nothing(folder):
    path = folder / "nothing.mp4"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "none.mp4", "no such file or folder"),
        (no_video, "holds no video stream"),
        (no_frames, "holds no frame|cannot be read|cut off"),
        (text, "is no video that can be read"),
        (nothing, "is no video that can be read"),
        (no_network, "is no video that can be read"),
    ],
)
def test_what_is_no_video_is_said_in_one_line(tmp_path, make, words):
    path = make(tmp_path)
    with pytest.raises(ClipError, match=words) as caught:
        open_clip(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_rate_is_for_folders(tmp_path):
    path = write_video(tmp_path / "a.mp4", panned(2))
    with pytest.raises(ValueError, match=r"fps is given, but .*a\.mp4 is no folder"):
        open_clip(path, fps=10)
