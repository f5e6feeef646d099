import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import naf
from naf.evaluation.config import load
from naf.evaluation.protocol import protocol_from
from naf.evaluation.video_frames import VideoProtocol, frame_size, label_grid, prepare_frame
from naf.evaluation.video_frames import prepare_guidance as guidance_of

PAPER = VideoProtocol(448, 2, topk=20, radius=24, context=7, temperature=0.1)
RELEASED = VideoProtocol(None, 1, topk=5, radius=12, context=7, temperature=0.1, name="released")


def picture(height, width):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_the_protocols_of_the_paper_and_of_the_code():
    for protocol in (PAPER, RELEASED):
        overrides = ["dataset=davis2017", "dataset.root=x", "backbone=hog", "upsampler=nearest"]
        values = load("video", [*overrides, f"protocol={protocol.name}"])
        assert protocol_from(VideoProtocol, values["protocol"]) == protocol
    assert VideoProtocol() == PAPER
    assert "name" not in PAPER.settings()
    assert PAPER.settings()["temperature"] == 0.1


@pytest.mark.parametrize(
    ("protocol", "patch", "size", "grid"),
    [
        (PAPER, 16, (448, 448), (56, 56)),
        (PAPER, 14, (448, 448), (64, 64)),
        (RELEASED, 16, (480, 848), (30, 53)),
        (RELEASED, 14, (476, 854), (34, 61)),
        (VideoProtocol(None, 2, 5, 12), 16, (480, 848), (60, 106)),
        (VideoProtocol(None, 2, 5, 12), 14, (476, 854), (68, 122)),
    ],
)
def test_sizes_of_the_specification(protocol, patch, size, grid):
    assert frame_size((480, 854), protocol, patch) == size
    assert label_grid((480, 854), protocol, patch) == grid


def test_squares_are_resized_by_pillow():
    image = picture(50, 90)
    out = prepare_frame(image, VideoProtocol(32, 2, 5, 3), 16)
    expected = np.asarray(image.resize((32, 32), Image.BICUBIC), dtype=np.float32) / 255
    assert out.dtype == torch.float32
    assert np.array_equal(out.permute(1, 2, 0).numpy(), expected)


def test_native_frames_are_rounded_down_to_whole_patches():
    image = picture(50, 90)
    out = prepare_frame(image, RELEASED, 16)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    assert torch.equal(out, F.interpolate(tensor, size=(48, 80), mode="bilinear")[0])
    assert torch.equal(prepare_frame(image, RELEASED, 10), tensor[0])


def test_guidance_has_the_size_of_the_labels():
    image01 = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    out = guidance_of(image01, (4, 6))
    assert torch.equal(out, F.interpolate(naf.normalize(image01), size=(4, 6), mode="bicubic"))
    assert guidance_of(image01, (32, 48)).sub(naf.normalize(image01)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"upsampling": 0}, "upsampling is 0"),
        ({"topk": 0}, "topk is 0"),
        ({"radius": -1}, "radius is -1, expected at least 0"),
        ({"context": -1}, "context is -1"),
        ({"temperature": 0}, "temperature is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        VideoProtocol(**({"image_size": 448, "upsampling": 2, "topk": 20, "radius": 24} | change))


def test_frames_that_do_not_fit_the_patch_are_refused():
    with pytest.raises(ValueError, match="image_size is 448, expected a multiple of the patch, 15"):
        frame_size((480, 854), PAPER, 15)
    with pytest.raises(ValueError, match=r"frames have \(10, 90\) pixels, expected at least one patch of 16"):
        prepare_frame(picture(10, 90), RELEASED, 16)
