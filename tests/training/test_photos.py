"""Photos from folders: geometry, label maps, damaged files, batches."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from naf.data import read_image
from naf.training.photos import Batch, DataError, PhotoFolder, TicketDataset, collate
from naf.training.photos.views import View
from naf.training.plan import Geometry, Stage, StepPlan
from naf.training.sampler import StepSampler

DATA = Path("../shared/data").resolve()
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")


def plan(step=0, image_size=32, seed=None):
    return StepPlan(step, 0, "photos", image_size, 16, 16, 4, step if seed is None else seed)


def write_photo(path, height=24, width=36, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    Image.fromarray(pixels.repeat(4, 0).repeat(4, 1)).save(path)
    return path


def write_broken(path):
    write_photo(path.with_suffix(".png"), 64, 64).rename(path)
    if path.stem.startswith("cut"):
        path.write_bytes(path.read_bytes()[:150])
    else:
        path.write_text("<html>404: not found</html>")


@pytest.fixture
def folder(tmp_path):
    for index in range(6):
        write_photo(tmp_path / f"class{index % 2}" / f"{index}.png", seed=index)
    return tmp_path


def same(a, b):
    return a.key == b.key and torch.equal(a.image01, b.image01)


@real_data
def test_the_centre_crop_is_the_official_one():
    photos = PhotoFolder(DATA / "BSDS500/data/images/train")
    official = transforms.Compose([transforms.Resize(96), transforms.CenterCrop(96), transforms.ToTensor()])
    for index in (0, 7, 23):  # lying and standing ones
        with Image.open(photos.path(index)) as image:
            expected = official(image)
        # Pillow rounds to 8 bits after each axis.
        assert (photos.load(index, plan(image_size=96), 0).image01 - expected).abs().max() < 1.5 / 255


def test_images_of_all_folders_are_found_in_a_fixed_order(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_photo(other / "z.JPEG")
    for name in (".hidden.png", "notes.txt", ".git/a.png"):
        (other / name).parent.mkdir(exist_ok=True)
        (other / name).write_text("no photo")
    photos = PhotoFolder([folder, str(other)])
    names = [photos.path(index) for index in range(len(photos))]
    below = ["class0/0.png", "class0/2.png", "class0/4.png", "class1/1.png", "class1/3.png", "class1/5.png"]
    assert names == [*(folder / name for name in below), other / "z.JPEG"]


def test_any_shape_of_photo_gives_a_square(tmp_path):
    for index, size in enumerate([(4, 4), (4, 4000), (400, 4), (36, 24)]):
        write_photo(tmp_path / f"{index}.png", *size)
    for options in ({}, {"crop": "random", "scale": (0.1, 1), "flip": True}):
        photos = PhotoFolder(tmp_path, **options)
        for index in range(4):
            image = photos.load(index, plan(), 0).image01
            assert image.shape == (3, 32, 32)
            assert 0 <= image.min() <= image.max() <= 1


def test_the_centre_crop_has_a_key_that_tells_photos_and_sizes_apart(folder):
    photos = PhotoFolder(folder)
    small, large = plan(image_size=32), plan(image_size=48)
    assert same(photos.load(1, small, 0), photos.load(1, replace(small, seed=9), 3))
    keys = {photos.load(index, size, 0).key for index in range(6) for size in (small, large)}
    assert len(keys) == 12


def test_a_key_follows_the_photo_and_not_its_name(folder):
    photos = PhotoFolder(folder)
    before = photos.load(0, plan(), 0)
    photos.path(0).rename(folder / "class1" / "9.png")
    assert same(PhotoFolder(folder).load(5, plan(), 0), before)
    write_photo(photos.path(0), seed=99)
    assert PhotoFolder(folder).load(0, plan(), 0).key != before.key


def test_new_random_crops_differ_from_step_to_step_and_have_no_key(folder):
    photos = PhotoFolder(folder, crop="random", scale=(0.3, 0.9))
    samples = [photos.load(2, plan(step), 0) for step in range(8)]
    assert all(sample.key is None for sample in samples)
    assert len({sample.image01.sum().item() for sample in samples}) == 8
    assert same(photos.load(2, plan(3), 0), samples[3])
    assert not same(photos.load(2, plan(3), 1), samples[3])


def test_fixed_views_come_again(folder):
    photos = PhotoFolder(folder, crop="random", views=3, scale=(0.3, 0.9), flip=True)
    samples = [photos.load(2, plan(step), 0) for step in range(40)]
    views = {sample.key: sample for sample in samples}
    assert len(views) == 3
    assert all(same(sample, views[sample.key]) for sample in samples)
    assert len({view.image01.sum().item() for view in views.values()}) == 3


def test_native_crops_are_pixels_of_the_photo(tmp_path):
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0)).mul(255).byte()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    windows = (image / 255).unfold(1, 16, 1).unfold(2, 16, 1)  # (3, 25, 41, 16, 16)
    photos, found = PhotoFolder(tmp_path, crop="native", flip=True), set()
    for step in range(12):
        view = photos.load(0, plan(step, image_size=16), 0)
        assert view.key is None
        for flip in (False, True):
            seen = view.image01.flip(2) if flip else view.image01
            places = (windows - seen[:, None, None]).abs().amax((0, 3, 4)).le(1e-6).nonzero().tolist()
            found |= {(flip, *place) for place in places}
    assert len(found) == 12
    assert {flip for flip, *_ in found} == {False, True}
    assert photos.load(0, plan(image_size=64), 0).image01.shape == (3, 64, 64)  # enlarged


def test_half_of_the_crops_are_mirrored(tmp_path):
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp, (32, 32)).copy()).save(tmp_path / "ramp.png")
    photos = PhotoFolder(tmp_path, crop="random", flip=True)
    mirrored = [photos.load(0, plan(step), 0).image01[0, 0].diff().mean() < 0 for step in range(200)]
    assert 70 < sum(mirrored) < 130


@pytest.mark.parametrize("options", [{}, {"crop": "random", "scale": (0.4, 1), "flip": True}])
def test_labels_lie_on_the_image(tmp_path, options):
    ids = np.random.default_rng(0).integers(0, 8, (6, 9)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    for name, array in (("photos/a.png", ids * 30), ("maps/a.png", ids)):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(array).save(tmp_path / name)
    photos = PhotoFolder(tmp_path / "photos", segments="{root}/../maps/{stem}.png", **options)
    for step in range(10):
        sample = photos.load(0, plan(step, image_size=64), 0)
        assert sample.segments.dtype == torch.int64
        seen = sample.image01[0] * 255 / 30
        spread = F.max_pool2d(seen[None], 3, 1, 1) + F.max_pool2d(-seen[None], 3, 1, 1)
        inside = spread[0] < 0.01  # not beside a border, where the image is a mixture
        assert inside.float().mean() > 0.5
        assert torch.equal(seen.round().long()[inside], sample.segments[inside])


@pytest.mark.parametrize("side", [16, 24, 32])
def test_labels_are_taken_at_pixel_centres(side):
    ids = torch.randint(0, 99, (24, 24), generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(ids[None, None].float(), size=(side, side), mode="nearest-exact")[0, 0].long()
    view = View.center(24, 24, side)
    assert torch.equal(view.of_labels(ids), expected)
    assert torch.equal(replace(view, flip=True).of_labels(ids), expected.flip(1))


@real_data
def test_bsds_draws_one_annotator_a_step():
    segments = "{root}/../../groundTruth_png/train/{stem}_*.png"
    photos = PhotoFolder(DATA / "BSDS500/data/images/train", segments=segments)
    samples = [photos.load(4, plan(step, image_size=64), 0) for step in range(12)]
    assert all(torch.equal(sample.image01, samples[0].image01) for sample in samples)
    assert len({tuple(sample.segments.flatten().tolist()) for sample in samples}) > 2
    assert min(sample.segments.min() for sample in samples) >= 1


@real_data
@pytest.mark.parametrize(
    ("root", "segments", "ids"),
    [
        ("CamVid/train", "{root}annot/{stem}.png", set(range(12))),
        ("DAVIS/JPEGImages/480p", "{root}/../../Annotations/480p/{parent}/{stem}.png", {0, 255}),
    ],
)
def test_label_maps_of_real_sets(root, segments, ids):
    photos = PhotoFolder(DATA / root, segments=segments)
    found = {i for index in (0, 50, 100) for i in photos.load(index, plan(image_size=96), 0).segments.unique().tolist()}
    assert len(found) >= 2
    assert found <= ids


def test_palette_maps_give_their_indices_and_colour_maps_are_left_out(folder, caplog):
    palette = Image.fromarray(np.full((24, 36), 7, np.uint8))
    palette.putpalette([value // 3 for value in range(768)])
    for index in range(6):
        (folder / "maps").mkdir(exist_ok=True)
        (palette.convert("RGB") if index == 0 else palette).save(folder / "maps" / f"{index}.png")
    photos = PhotoFolder([folder / "class0", folder / "class1"], segments="{root}/../maps/{name}")
    for index in range(6):
        assert photos.load(index, plan(), 0).segments.unique().tolist() == [7]
    assert "0.png: has 3 channels, expected one with the id of each pixel. Left out" in caplog.text


def test_photos_without_a_fitting_label_map_are_named(folder):
    with pytest.raises(DataError, match=r"class0/0\.png has no label map: no file fits segments"):
        PhotoFolder(folder, segments="{root}/{parent}/{stem}_?.png").load(0, plan(), 0)
    write_photo(folder / "maps" / "0.png").unlink()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "maps" / "0.png")
    with pytest.raises(DataError, match=r"0\.png has \(5, 5\) pixels, .* has \(24, 36\)"):
        PhotoFolder(folder, segments="{root}/maps/{stem}.png").load(0, plan(), 0)
    with pytest.raises(ValueError, match=r"segments is '\{stm\}\.png', expected a path with fields among \{root\}"):
        PhotoFolder(folder, segments="{stm}.png")


def test_broken_files_are_left_out_with_one_warning_each(folder, caplog):
    clean = PhotoFolder(folder)
    expected = [clean.load(index, plan(), 0) for index in range(6)]
    write_broken(folder / "class0" / "cut.jpg")  # sorted behind class0/4.png
    write_broken(folder / "class0" / "text.jpg")
    photos = PhotoFolder(folder)
    assert len(photos) == 8
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            got = [photos.load(index, plan(), 0) for index in range(8)]
    assert all(same(a, b) for a, b in zip(got, expected[:3] + [expected[3]] * 2 + expected[3:], strict=True))
    assert [Path(r.getMessage().split(": ")[0]).name for r in caplog.records] == ["cut.jpg", "text.jpg"]


def test_too_many_broken_files_stop_the_training(folder):
    for index in range(7):
        write_broken(folder / "class0" / f"text{index}.jpg")
    photos = PhotoFolder(folder)
    with pytest.raises(DataError, match=r"7 of the 7 images tried in .* cannot be read, the last one: .*text6"):
        photos.load(3, plan(), 0)


def test_a_few_broken_files_of_many_stop_nothing_and_a_tenth_does(folder):
    for index in range(60):
        write_photo(folder / "class1" / f"good{index}.png", seed=index)
    for index in range(11):
        write_broken(folder / "class2" / f"{index}.jpg") if index else (folder / "class2").mkdir()
    assert PhotoFolder(folder).load(66, plan(), 0).image01.shape == (3, 32, 32)  # past ten broken ones
    write_broken(folder / "class2" / "x.jpg")
    with pytest.raises(DataError, match="11 of the 11 images"):
        PhotoFolder(folder).load(66, plan(), 0)


def test_folders_without_images_are_named(tmp_path):
    with pytest.raises(DataError, match="lost is not there, expected a folder of images"):
        PhotoFolder(tmp_path / "lost")
    with pytest.raises(DataError, match="hold no image"):
        PhotoFolder(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        PhotoFolder(write_photo(tmp_path / "a.png"))
    with pytest.raises(DataError, match="roots is empty"):
        PhotoFolder([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "middle"}, 'crop is \'middle\', expected "center", "random" or "native"'),
        ({"crop": "random", "scale": (0.5, 1.5)}, r"scale is \(0.5, 1.5\)"),
        ({"crop": "random", "views": 0}, "views is 0, expected at least 1"),
        ({"flip": True}, 'expected crop="random"'),
        ({"crop": "native", "scale": (0.5, 1.0)}, 'expected crop="random"'),
    ],
)
def test_options_that_make_no_sense_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        PhotoFolder(folder, **options)


class Spec:
    weight, geometry, stride = 1.0, None, 8


def loader(folder, workers, rank=0, world_size=1):
    photos = PhotoFolder(folder, crop="random", views=2, flip=True, scale=(0.5, 1))
    stages = [Stage(3, Geometry((32, 48), (0.5, 1.0)), batch_size=4)]
    sampler = StepSampler(stages, {"photos": Spec()}, {"photos": len(photos)}, 0, 3, rank, world_size)
    dataset = pickle.loads(pickle.dumps(TicketDataset({"photos": photos})))
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers)


def test_workers_and_processes_load_the_same_global_batch(folder):
    whole = list(loader(folder, 0))
    assert [batch.image01.shape for batch in whole] == [(4, 3, b.plan.image_size, b.plan.image_size) for b in whole]
    assert all(len(set(batch.keys)) > 1 for batch in whole)
    halves = [list(loader(folder, 1, rank, 2)) for rank in range(2)]
    for batch, *parts in zip(whole, *halves, strict=True):
        assert [part.first for part in parts] == [0, 2]
        assert all(part.plan == batch.plan for part in parts)
        assert torch.equal(torch.cat([part.image01 for part in parts]), batch.image01)
        assert parts[0].keys + parts[1].keys == batch.keys


def test_a_batch_goes_to_another_device_as_a_whole():
    batch = Batch(plan(), torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64), ["a", "b"], 2)
    moved = batch.to("meta")
    assert moved.image01.is_meta
    assert moved.segments.is_meta
    assert (moved.plan, moved.keys, moved.first) == (batch.plan, batch.keys, 2)


@real_data
def test_real_photos_of_all_shapes_load():
    photos = PhotoFolder(DATA / "imagenet-sample", crop="random", scale=(0.3, 1))
    assert len(photos) == 350
    for index in range(0, 350, 35):
        image = photos.load(index, plan(index, image_size=64), 0).image01
        assert image.std() > 0.02
        assert 0 < read_image(photos.path(index)).mean() < 1
