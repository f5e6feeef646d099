from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from naf.data import davis
from naf.data.davis import VideoError
from naf.evaluation import davis_sequence
from naf.evaluation.davis_metrics import score_sequence, summarize
from naf.evaluation.davis_results import has_results, result_paths, score_folder, write_results
from naf.evaluation.davis_sequence import labels_to_mask, mask_to_labels, propagate_sequence
from naf.evaluation.video_frames import VideoProtocol, prepare_frame
from tests.data.test_davis import REAL, make_list, make_videos, real_data, save_mask
from tests.evaluation.test_video_frames import PAPER, RELEASED
from tests.helpers import randn

PATCH = 4
SMALL = VideoProtocol(None, 2, topk=5, radius=2)


def color_features(sequence, protocol, patch=PATCH):
    """Frames averaged over the cells of the label grid, with a constant channel."""

    def features_of(index):
        image01 = prepare_frame(sequence.read_frame(index), protocol, patch)
        colors = F.avg_pool2d(image01, patch // protocol.upsampling)
        return torch.cat([colors - 0.5, torch.full_like(colors[:1], 0.5)])

    return features_of


@pytest.fixture
def videos(tmp_path):
    make_videos(tmp_path)
    make_list(tmp_path / "ImageSets/2017/val.txt")
    return davis.create("davis2017", tmp_path)


@pytest.fixture
def static(tmp_path):
    """Twelve times the same frame, whose two objects fill whole cells."""
    mask = np.zeros((32, 48), np.uint8)
    mask[4:16, 8:24], mask[16:28, 20:40] = 1, 2
    for index in range(12):
        save_mask(tmp_path / f"Annotations/480p/still/{index:05d}.png", mask)
        frame = tmp_path / f"JPEGImages/480p/still/{index:05d}.jpg"
        frame.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array([[0, 0, 0], [255, 60, 0], [0, 90, 255]], np.uint8)[mask]).save(frame)
    make_list(tmp_path / "ImageSets/2017/val.txt", ["still"])
    return davis.create("davis2017", tmp_path)


@pytest.mark.parametrize("protocol", [VideoProtocol(None, 2, 20, 24), VideoProtocol(None, 4, 5, 2)])
def test_a_static_video_keeps_its_masks(static, protocol):
    still = static.sequences[0]
    truth = np.stack([still.read_mask(index) for index in range(12)])
    masks = propagate_sequence(still, color_features(still, protocol), protocol, PATCH)
    for score in score_sequence("still", truth, masks, 2):
        assert score.region == score.contour == (1, 1, 0)


def test_a_static_video_keeps_what_a_coarse_grid_can_hold(static):
    still = static.sequences[0]
    cells = randn(64, 8, 12)  # tells every cell from the others
    masks = propagate_sequence(still, lambda index: cells, VideoProtocol(None, 1, 1, 12), PATCH)
    held = labels_to_mask(mask_to_labels(masks[0], 2, (8, 12)), 1, PATCH, (32, 48))
    assert (masks[1:] == held).all()
    assert 0 < (held != masks[0]).mean() < 0.05  # corners of the objects


def test_masks_move_with_the_video(tmp_path):
    make_videos(tmp_path, lengths={"walk": 12})
    make_list(tmp_path / "ImageSets/2017/val.txt", ["walk"])
    walk = davis.create("davis2017", tmp_path).sequences[0]
    masks = propagate_sequence(walk, color_features(walk, SMALL), SMALL, PATCH)
    assert (masks.shape, masks.dtype) == ((12, 24, 40), np.uint8)
    truth = np.stack([walk.read_mask(index) for index in range(12)])
    assert np.array_equal(masks[0], truth[0])
    found = summarize(score_sequence("walk", truth, masks, 2))
    stays = summarize(score_sequence("walk", truth, np.repeat(truth[:1], 12, 0), 2))
    assert found["J"] > stays["J"] + 20


def test_contexts_are_the_first_frame_and_the_last_predicted_ones(static, monkeypatch):
    seen = []

    def spy(target, contexts, *, radius, topk, temperature):
        seen.append([int(features[0, 0, 0]) for features, _ in contexts])
        assert (radius, topk, temperature) == (2, 5, 0.3)
        soft = contexts[-1][1] * 0.5
        soft[0, 0, 0] = target[0, 0, 0]  # marks the frame that the labels are of
        for features, labels in contexts[1:]:
            assert labels[0, 0, 0] == features[0, 0, 0]
        return soft

    monkeypatch.setattr(davis_sequence, "propagate", spy)
    asked = []

    def features_of(index):
        asked.append(index)
        return torch.full((3, 16, 24), float(index))

    propagate_sequence(static.sequences[0], features_of, replace(SMALL, temperature=0.3), PATCH)
    assert asked == list(range(12))
    assert seen[:3] == [[0], [0, 1], [0, 1, 2]]
    assert seen[7] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert seen[10] == [0, 4, 5, 6, 7, 8, 9, 10]


def test_features_of_another_size_are_brought_to_the_grid(videos):
    walk = videos.sequences[0]
    fine = color_features(walk, VideoProtocol(None, 4, 5, 2))
    expected = propagate_sequence(
        walk, lambda i: F.interpolate(fine(i)[None], (12, 20), mode="bilinear")[0], SMALL, PATCH
    )
    assert np.array_equal(propagate_sequence(walk, fine, SMALL, PATCH), expected)
    short = propagate_sequence(walk, lambda i: fine(i).bfloat16(), SMALL, PATCH)
    assert (short != expected).mean() < 0.02


def test_features_that_make_no_sense_are_named(videos):
    walk = videos.sequences[0]
    for features, message in [
        (torch.zeros(1, 3, 12, 20), r"00000\.jpg are torch\.float32 \(1, 3, 12, 20\), expected float \(C, h, w\)"),
        (torch.zeros(3, 12, 20, dtype=torch.int64), r"00000\.jpg are torch\.int64"),
        (torch.full((3, 12, 20), torch.nan), r"00000\.jpg are not finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            propagate_sequence(walk, lambda index, features=features: features, SMALL, PATCH)


def test_first_labels_are_nearest_neighbours_with_void_as_background():
    mask = np.random.default_rng(0).integers(0, 4, (23, 37)).astype(np.uint8)
    mask[mask == 3] = 255
    labels = mask_to_labels(mask, 5, (6, 9))
    small = np.array(Image.fromarray(mask).resize((9, 6), Image.NEAREST))
    assert labels.shape == (6, 6, 9)
    assert np.array_equal(labels.argmax(0).numpy(), np.where(small == 255, 0, small))
    assert torch.equal(labels.sum(0), torch.ones(6, 9))


def test_each_channel_is_stretched_before_the_largest_wins():
    labels = torch.zeros(3, 2, 4)
    labels[0], labels[1] = 0.7, 0.3
    labels[0, :, 2:], labels[1, :, 2:] = 0.6, 0.4  # never the largest, but the largest of its channel
    mask = labels_to_mask(labels, 1, 4, (8, 16))
    assert (mask[:, :4] == 0).all()
    assert (mask[:, 12:] == 1).all()


def test_objects_that_are_gone_or_everywhere():
    background = torch.zeros(3, 4, 4)
    background[0] = 1
    assert (labels_to_mask(background, 2, 4, (9, 7)) == np.zeros((9, 7))).all()
    assert (labels_to_mask(background.roll(1, 0), 2, 4, (9, 7)) == 1).all()


def test_results_come_back_as_written(videos, tmp_path):
    folder = tmp_path / "results"
    walk = videos.sequences[0]
    masks = np.random.default_rng(0).integers(0, 3, (4, 24, 40)).astype(np.uint8)
    masks[0, 0, 0] = 255  # void of the truth stays
    assert not has_results(folder, walk)
    write_results(folder, walk, masks)
    assert has_results(folder, walk)
    assert sorted(path.name for path in (folder / "walk").iterdir()) == [f"0000{index}.png" for index in range(4)]
    for path, mask in zip(result_paths(folder, walk), masks, strict=True):
        with Image.open(path) as image:
            assert image.mode == "P"
            assert image.getpalette()[3:12] == [128, 0, 0, 0, 128, 0, 128, 128, 0]
            assert np.array_equal(np.array(image), mask)
    result_paths(folder, walk)[3].unlink()
    assert not has_results(folder, walk)


def test_masks_that_are_not_of_the_sequence_are_not_written(videos, tmp_path):
    for masks in (np.zeros((3, 24, 40), np.uint8), np.zeros((4, 24, 40), np.int64)):
        with pytest.raises(ValueError, match=r"expected uint8 \(4, H, W\)"):
            write_results(tmp_path / "results", videos.sequences[0], masks)
    assert not (tmp_path / "results").exists()


def test_a_folder_scores_as_its_masks(videos, tmp_path):
    expected = []
    for sequence in videos.sequences:
        truth = np.stack([sequence.read_mask(index) for index in range(len(sequence))])
        masks = np.where(truth == 2, 0, np.roll(truth, 2, axis=2))
        write_results(tmp_path / "results", sequence, masks)
        expected += score_sequence(sequence.name, truth, masks, 2)
    for sequence in videos.sequences:
        result_paths(tmp_path / "results", sequence)[-1].unlink()  # is not scored
    found = score_folder(videos, tmp_path / "results")
    assert found == expected
    assert 0 < summarize(found)["J"] < 50


def test_binary_results_of_2016_are_scored(tmp_path):
    make_videos(tmp_path, 1, value=255)
    make_list(tmp_path / "ImageSets/2016/val.txt")
    videos = davis.create("davis2016", tmp_path)
    assert summarize(score_folder(videos, tmp_path / "Annotations/480p"))["JF"] == 100


def test_results_that_do_not_fit_are_named(videos, tmp_path):
    folder = tmp_path / "results"
    for sequence in videos.sequences:
        write_results(folder, sequence, np.ones((len(sequence), 24, 40), np.uint8))
    path = folder / "ride/00001.png"
    for mask, message in [
        (np.full((24, 40), 3, np.uint8), "has object 3, expected at most 2"),
        (np.ones((24, 41), np.uint8), r"has \(24, 41\) pixels .*, expected \(24, 40\)"),
    ]:
        save_mask(path, mask)
        with pytest.raises(VideoError, match=rf"ride.00001\.png: {message}"):
            score_folder(videos, folder)
    path.unlink()
    with pytest.raises(VideoError, match=r"ride.00001\.png: no such mask"):
        score_folder(videos, folder)


@real_data
@pytest.mark.parametrize(("mode", "least"), [(PAPER, 45), (RELEASED, 35)], ids=["paper", "released"])
def test_colours_track_a_real_dog_somewhat(tmp_path, mode, least):
    dog = davis.create("davis2016", REAL, sequences=["dog"])
    short = replace(dog.sequences[0], frames=dog.sequences[0].frames[:5], masks=dog.sequences[0].masks[:5])
    masks = propagate_sequence(short, color_features(short, mode, 16), mode, 16)
    write_results(tmp_path, short, masks)
    found = summarize(score_folder(replace(dog, sequences=[short]), tmp_path))
    assert found["J"] > least
    assert found["F_repository"] > found["F"] > 5
