"""Clips to videos: one basis, colours that stand still, and runs that are stopped."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

import naf
from naf.backbones import create as create_backbone
from naf.clip import SEGMENT, upsample_clip
from naf.data.video import open_clip
from naf.pipeline import upsample_photo
from naf.visualization.pca import PCAColors, to_image
from tests.data.video.clips import decoded, difference, panned, write_video
from tests.helpers import small

FRAMES = 2 * SEGMENT + 3


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def hog():
    return create_backbone("hog")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A video of a photo in motion, in three segments, its frames at uneven times."""
    times = list(np.cumsum([3, 4, 5, 1, 9, 4, 4] * 5) + 7)
    return open_clip(write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", panned(FRAMES), times=times, crf="12"))


def make(clip, target, backbone, **options):
    return upsample_clip(clip, target, backbone, {"naf": small("naf")}, **{"layout": "result", **options})


@pytest.fixture(scope="module")
def whole(source, hog, tmp_path_factory):
    """The video that is made in one go."""
    target = tmp_path_factory.mktemp("whole") / "clip.mp4"
    return make(source, target, hog)


def still(folder, visitor=None):
    """A clip of one photo, ten times, in whose lower half a visitor walks from left to right if one is given."""
    folder.mkdir()
    for number in range(10):
        frame = data.astronaut()[:112, 160:304].copy()
        if visitor is not None:
            frame[64:, 10 * number : 10 * number + 48] = visitor
        Image.fromarray(frame).save(folder / f"{number}.png")
    return open_clip(folder)


def flicker(frames):
    """Mean absolute change from a frame to the next, in levels of 255."""
    return np.mean([difference(one, other) for one, other in pairwise(frames)])


def test_frames_show_the_upsampled_features_in_one_basis(source, hog, whole):
    frames, _ = decoded(whole.path)
    assert (whole.frames, whole.resumed_at, len(frames)) == (FRAMES, 0, FRAMES)
    for number, image01 in enumerate(source.read(range(0, FRAMES, 9))):
        photo = upsample_photo(image01, hog, small("naf"))
        expected = np.asarray(to_image(whole.colors.project(photo.features[None])[0]))
        assert difference(frames[9 * number], expected) < 6  # 4:2:0 blurs colours
        assert difference(frames[9 * number], 255 - expected) > 40


def test_the_basis_spans_the_middle_of_all_frames(source, hog, whole):
    coarse = torch.cat([hog(image01[None]) for image01 in source.read(range(FRAMES))])
    colors = whole.colors.project(coarse)
    inside = ((colors >= 0) & (colors <= 1)).float().mean((0, 2, 3))
    assert ((inside > 0.95) & (inside < 0.995)).all()
    assert (colors.amax((0, 2, 3)) > 1).all()


def test_times_are_those_of_the_clip(source, whole):
    _, seconds = decoded(whole.path)
    np.testing.assert_allclose(seconds, [float(time * source.time_base) for time in source.times[:-1]], atol=1e-6)


@pytest.mark.parametrize("stop", [0, SEGMENT, SEGMENT + 1, FRAMES])
def test_a_run_that_is_stopped_goes_on_and_ends_the_same(source, hog, whole, tmp_path, stop):
    def stop_at(step, done, total):
        assert total == (FRAMES if step == "frames" else 16)
        if step == "frames" and done == stop:
            raise StopError

    target = tmp_path / "clip.mp4"
    with pytest.raises(StopError):
        make(source, target, hog, on_progress=stop_at)
    assert not target.exists()
    finished = max(0, stop - 1) // SEGMENT * SEGMENT
    made = []
    result = make(source, target, hog, on_progress=lambda step, done, _: made.append((step, done)))
    assert made == [("frames", number) for number in range(finished, FRAMES + 1)]  # the colours are kept too
    assert (result.frames, result.resumed_at) == (FRAMES, finished)
    assert target.read_bytes() == whole.path.read_bytes()
    assert list(tmp_path.iterdir()) == [target]


def test_a_run_that_is_stopped_while_it_looks_for_colours_begins_anew(source, hog, whole, tmp_path):
    def stop(step, done, total):
        if (step, done) == ("colours", 9):
            raise StopError

    with pytest.raises(StopError):
        make(source, tmp_path / "clip.mp4", hog, on_progress=stop)
    make(source, tmp_path / "clip.mp4", hog)
    assert (tmp_path / "clip.mp4").read_bytes() == whole.path.read_bytes()


def interrupted(clip, target, backbone, **options):
    def stop(step, done, total):
        if step == "frames" and done > SEGMENT:
            raise StopError

    with pytest.raises(StopError):
        make(clip, target, backbone, on_progress=stop, **options)


def test_work_of_other_settings_is_named_and_not_mixed(source, hog, whole, tmp_path):
    target = tmp_path / "clip.mp4"
    interrupted(source, target, hog, output_size=(32, 48))
    with pytest.raises(
        ValueError, match=r"\.partial was begun with other settings \(output size '32x48', now '64x96'\)"
    ):
        make(source, target, hog)
    assert make(source, target, hog, overwrite=True).resumed_at == 0
    assert target.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 2}, "every '1', now '2'"),
        ({"layout": "side"}, "layout 'result', now 'side'"),
        ({"upsamplers": "bilinear"}, "upsampler 'naf', now 'bilinear'"),
        ({"upsamplers": "naf"}, "other weights or options of naf"),
        ({"backbone": 32}, "other weights or options of the backbone"),
    ],
)
def test_every_setting_counts(source, hog, tmp_path, options, words):
    target = tmp_path / "clip.mp4"
    interrupted(source, target, hog)
    name = options.pop("upsamplers", None)
    upsampler = {None: small("naf"), "naf": small("naf", kernel_size=5), "bilinear": naf.create("bilinear")}[name]
    backbone = create_backbone("hog", max_side=options.pop("backbone", None))
    with pytest.raises(ValueError, match=words):
        upsample_clip(source, target, backbone, {name or "naf": upsampler}, **{"layout": "result", **options})


def test_another_clip_is_other_work(source, hog, tmp_path):
    target = tmp_path / "clip.mp4"
    interrupted(source, target, hog)
    other = open_clip(write_video(tmp_path / "clip.mkv", panned(FRAMES)))
    with pytest.raises(ValueError, match=r"other input; name of the input 'clip\.mp4', now 'clip\.mkv'"):
        make(other, target, hog)


def test_an_overwriting_run_that_was_stopped_goes_on_too(source, hog, whole, tmp_path):
    target = tmp_path / "clip.mp4"
    target.write_text("an older video")
    with pytest.raises(ValueError, match=r"clip\.mp4 exists: overwrite"):
        make(source, target, hog)
    interrupted(source, target, hog, overwrite=True)
    assert target.read_text() == "an older video"
    assert make(source, target, hog, overwrite=True).resumed_at == SEGMENT
    assert target.read_bytes() == whole.path.read_bytes()


def test_a_damaged_segment_is_made_again(source, hog, whole, tmp_path):
    target = tmp_path / "clip.mp4"
    interrupted(source, target, hog)
    segment = tmp_path / "clip.mp4.partial/000000.mp4"
    segment.write_bytes(segment.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"000000\.mp4 was damaged and is removed"):
        make(source, target, hog)
    make(source, target, hog)
    assert target.read_bytes() == whole.path.read_bytes()


def test_every_third_frame_is_shown_three_times_as_long(source, hog, whole, tmp_path):
    result = make(source, tmp_path / "clip.mp4", hog, every=3)
    frames, seconds = decoded(result.path)
    assert result.frames == len(frames) == -(-FRAMES // 3)
    np.testing.assert_allclose(seconds, [float(time * source.time_base) for time in source.times[:-1:3]], atol=1e-6)


def test_all_upsamplers_share_the_basis(source, hog, whole, tmp_path):
    methods = {"nearest": naf.create("nearest"), "bilinear": naf.create("bilinear")}
    both = upsample_clip(source, tmp_path / "a.mp4", hog, methods, every=12, theme="dark")
    assert decoded(both.path)[0][0].shape[0] > 1100  # two rows
    alone = upsample_clip(source, tmp_path / "b.mp4", hog, {"bilinear": methods["bilinear"]}, layout="result")
    assert torch.equal(alone.colors.weight, whole.colors.weight)
    assert torch.equal(alone.colors.bias, whole.colors.bias)


def test_an_odd_size_becomes_even(source, hog, tmp_path):
    result = make(source, tmp_path / "clip.mp4", hog, output_size=(33, 47), every=12)
    assert decoded(result.path)[0][0].shape == (34, 48, 3)


def test_a_still_clip_stands_still(hog, tmp_path):
    result = make(still(tmp_path / "frames"), tmp_path / "a.mp4", hog)
    assert flicker(decoded(result.path)[0]) < 0.5  # of 255: what the encoder adds


def test_what_stands_still_keeps_its_colour_when_something_else_moves(hog, tmp_path):
    clip = still(tmp_path / "frames", visitor=data.chelsea()[100:148, 150:198])
    methods = {"nearest": naf.create("nearest")}
    result = upsample_clip(clip, tmp_path / "a.mp4", hog, methods, layout="result")
    frames = np.array(decoded(result.path)[0])
    assert flicker(frames[:, :32]) < 1.5  # of 255: what the encoder adds
    assert flicker(frames[:, 64:]) > 10
    coarse = [hog(image01[None]) for image01 in clip.read(range(len(clip)))]
    single = [np.asarray(PCAColors.fit(features).image(features))[:2] for features in coarse]
    assert flicker(single) > 5  # with a basis a frame


def test_the_basis_is_the_same_from_run_to_run(source, hog, whole, tmp_path):
    again = make(source, tmp_path / "a.mp4", hog, every=1).colors
    assert torch.equal(again.weight, whole.colors.weight)
    largest = again.weight.gather(1, again.weight.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()  # so signs cannot flip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layout": "grid"}, "layout is 'grid', expected one of 'side', 'result'"),
        ({"every": 0}, "every is 0, expected 1"),
        ({"theme": "blue"}, "theme is 'blue'"),
        ({"output_size": (3, 3)}, r"output_size \(3, 3\) is smaller than the feature grid"),
        ({"output_size": (10**6, 10**6)}, "an output of 1000000x1000000 needs .* GiB"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(source, hog, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        make(source, tmp_path / "clip.mp4", hog, **{"layout": "side", **options})
    assert not list(tmp_path.iterdir())


def test_upsamplers_that_cannot_serve_are_refused(source, hog, tmp_path):
    two = {"a": naf.create("nearest"), "b": naf.create("bilinear")}
    with pytest.raises(ValueError, match="layout 'result' shows one upsampler, 2 are given"):
        upsample_clip(source, tmp_path / "a.mp4", hog, two, layout="result")
    with pytest.raises(ValueError, match="upsamplers is empty"):
        upsample_clip(source, tmp_path / "a.mp4", hog, {})
    fitted = naf.create("featup-implicit", weights=None, channels=16)
    with pytest.raises(ValueError, match="'featup-implicit' is fitted to one image"):
        upsample_clip(source, tmp_path / "a.mp4", hog, {"featup-implicit": fitted})


def test_a_video_never_takes_the_place_of_its_clip(source, hog):
    before = source.path.read_bytes()
    with pytest.raises(ValueError, match="would take the place of"):
        make(source, source.path, hog, overwrite=True)
    assert source.path.read_bytes() == before
