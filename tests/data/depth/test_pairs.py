"""Folders of pairs: lists, patterns, scenes, missing values, files that do not fit."""

import numpy as np
import pytest
from PIL import Image

from naf.data.depth import DepthError, DepthPairs, create
from tests.data.depth.files import DATA, needs, write_depth, write_image

SCENES = {"train": ["kitchen", "attic/left"], "val": ["attic/right"]}
NAMES = ["attic/left/rgb_1.png", "attic/right/rgb_1.png", "kitchen/rgb_1.png", "kitchen/rgb_2.png"]


def write_set(root):
    lines = ["# rgb depth units_per_metre", ""]
    for index, name in enumerate(NAMES):
        depth = name.replace("rgb_", "sync_depth_")
        write_image(root / name, value=index)
        write_depth(root / depth, value=2000 + index)
        lines.append(f"{name} {depth} 1000 518 519")
    (root / "pairs.txt").write_text("\n".join(lines))
    return root


def test_a_list_is_read_in_its_order(tmp_path):
    pairs = create("depth_pairs", write_set(tmp_path), "all")
    assert pairs.names == NAMES
    assert (pairs.key, pairs.split, pairs.note, pairs.expected) == ("depth_pairs", "all", "", None)
    for index in range(4):
        image, depth = pairs.read_image(index), pairs.read_depth(index)
        assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (6, 4), (index,) * 3)
        assert (depth.dtype, depth.shape) == (np.float32, (4, 6))
        assert depth[0].tolist() == pytest.approx([0, 0] + [2 + index / 1000] * 4)


def test_missing_values_can_be_chosen(tmp_path):
    depth = DepthPairs(write_set(tmp_path), "all", missing=[2000]).read_depth(0)
    assert depth[0, :3].tolist() == pytest.approx([0, 65.535, 0])


def test_units_stand_for_the_third_column(tmp_path):
    write_set(tmp_path)
    (tmp_path / "other.txt").write_text(f"/{NAMES[0]} /{NAMES[0].replace('rgb', 'sync_depth')} 518.8579")
    pairs = DepthPairs(tmp_path, "all", pairs="other.txt", units=256)
    assert pairs.names == NAMES[:1]
    assert pairs.read_depth(0)[1, 1] == pytest.approx(2000 / 256)


def test_scenes_split(tmp_path):
    write_set(tmp_path)
    assert DepthPairs(tmp_path, "train", scenes=SCENES).names == [NAMES[0], NAMES[2], NAMES[3]]
    assert DepthPairs(tmp_path, "val", scenes=SCENES).names == [NAMES[1]]
    assert DepthPairs(tmp_path, "val", scenes={"val": "attic/"}).names == NAMES[:2]
    assert DepthPairs(tmp_path, "all", scenes=SCENES).names == NAMES


@pytest.mark.parametrize(
    ("scenes", "message"),
    [
        (None, "has no split 'train', expected scenes="),
        ({"val": ["attic"]}, "has no split 'train'"),
        ({"train": ["kitch"]}, "scene 'kitch' has no images"),
        ({"train": ["attic"], "val": ["attic/right"]}, "attic/right/rgb_1.png is in scenes of 'train' and of 'val'"),
        ({"train": []}, "no images of split 'train' of depth_pairs"),
    ],
)
def test_scenes_that_make_no_split_are_refused(tmp_path, scenes, message):
    with pytest.raises(DepthError, match=rf"pairs.txt: {message}"):
        DepthPairs(write_set(tmp_path), "train", scenes=scenes)


def test_patterns_pair_what_their_wildcards_have_in_common(tmp_path):
    (write_set(tmp_path) / "pairs.txt").unlink()
    write_image(tmp_path / "kitchen" / "plan.png")
    options = {"images": "*/rgb_*.png", "depths": "*/sync_depth_*.png", "units": 1000}
    pairs = DepthPairs(tmp_path, "all", **options)
    assert pairs.names == NAMES[2:]
    assert pairs.read_depth(1)[1, 1] == pytest.approx(2.003)


def test_patterns_can_change_the_folders(tmp_path):
    for name in "ab":
        write_image(tmp_path / "left" / f"{name}.png")
        write_depth(tmp_path / "disk" / "deep" / f"{name}_d.png")
    assert DepthPairs(tmp_path, "all", images="left/*.png", depths="disk/deep/*_d.png", units=1000).names == [
        "left/a.png",
        "left/b.png",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "*/a.png"}, "expected patterns for both, or for none"),
        ({"images": "*/a.png", "depths": "*/b.png"}, "units per metre are missing, expected units="),
        ({"images": "*/a.png", "depths": "b.png", "units": 1}, r"expected as many single \* in both"),
        ({"images": "a.png", "depths": "b.png", "units": 1}, r"expected as many single \* in both"),
        ({"images": "**/a.png", "depths": "**/b.png", "units": 1}, r"expected as many single \* in both"),
        ({"images": "*/none.png", "depths": "*/b.png", "units": 1}, "no images of split 'all'"),
        ({"images": "*/rgb_*.png", "depths": "*/d_*.png", "units": 1}, "kitchen/d_1.png: no such file"),
        ({"images": "*/rgb_*.png", "depths": "*/sync_depth_*.png", "units": 0}, "units per metre are 0"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(tmp_path, options, message):
    with pytest.raises(DepthError, match=message):
        DepthPairs(write_set(tmp_path), "all", **options)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("kitchen/rgb_1.png", "'kitchen/rgb_1.png', expected `image depth units_per_metre`"),
        ("kitchen/rgb_1.png kitchen/sync_depth_1.png", "units per metre are missing"),
        ("kitchen/rgb_1.png kitchen/sync_depth_1.png mm", "units per metre are 'mm'"),
        ("kitchen/rgb_1.png kitchen/sync_depth_1.png 0", "units per metre are 0.0"),
        ("kitchen/rgb_1.png kitchen/sync_depth_1.png nan", "units per metre are nan"),
    ],
)
def test_a_line_that_is_incomplete_is_named(tmp_path, line, message):
    (write_set(tmp_path) / "pairs.txt").write_text(f"# a list\n{line}\n")
    with pytest.raises(DepthError, match=rf"pairs\.txt(, line 2)?: {message}"):
        DepthPairs(tmp_path, "all")


def test_an_image_that_is_listed_twice_is_named(tmp_path):
    path = write_set(tmp_path) / "pairs.txt"
    path.write_text(path.read_text() + "\n" + path.read_text())
    with pytest.raises(DepthError, match=r"pairs.txt: attic/left/rgb_1.png is listed twice"):
        DepthPairs(tmp_path, "all")


def test_a_missing_list_a_missing_folder_and_an_empty_list_are_named(tmp_path):
    with pytest.raises(DepthError, match=r"pairs.txt: no such file, expected a list of pairs"):
        DepthPairs(tmp_path, "all")
    with pytest.raises(DepthError, match="nowhere is not there"):
        DepthPairs(tmp_path / "nowhere", "all")
    (tmp_path / "pairs.txt").write_text("# nothing\n")
    with pytest.raises(DepthError, match=r"pairs.txt: no images of split 'all'"):
        DepthPairs(tmp_path, "all")


@pytest.mark.parametrize("name", ["kitchen/rgb_1.png", "kitchen/sync_depth_1.png"])
def test_a_missing_file_is_named_at_once(tmp_path, name):
    (write_set(tmp_path) / name).unlink()
    with pytest.raises(DepthError, match=rf"{name}: no such file; see .*pairs.txt"):
        DepthPairs(tmp_path, "all")


@pytest.mark.parametrize("name", ["kitchen/rgb_1.png", "kitchen/sync_depth_1.png"])
def test_a_damaged_file_is_named(tmp_path, name):
    pairs = DepthPairs(write_set(tmp_path), "all")
    whole = (tmp_path / name).read_bytes()
    for content in (b"nothing", whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DepthError, match=f"{name}: (is no image|damaged)"):
            pairs.read_image(2) if "rgb" in name else pairs.read_depth(2)


def test_a_file_that_went_away_is_named(tmp_path):
    pairs = DepthPairs(write_set(tmp_path), "all")
    (tmp_path / NAMES[0]).unlink()
    with pytest.raises(DepthError, match=rf"{NAMES[0]}: no such file"):
        pairs.read_image(0)


def test_a_pair_of_different_sizes_is_named(tmp_path):
    pairs = DepthPairs(write_set(tmp_path), "all")
    write_depth(tmp_path / "kitchen/sync_depth_1.png", height=6, width=4)
    with pytest.raises(DepthError, match=r"sync_depth_1.png has 4 x 6 pixels, its image .*rgb_1.png 6 x 4"):
        pairs.read_depth(2)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "F"])
def test_a_depth_file_that_is_not_16_bit_is_named(tmp_path, mode):
    write_set(tmp_path)
    path = tmp_path / "kitchen/sync_depth_1.png"
    Image.new(mode, (6, 4)).save(path, format="TIFF" if mode == "F" else "PNG")
    with pytest.raises(DepthError, match=f"sync_depth_1.png: is a picture of mode {mode}, expected one channel of 16"):
        DepthPairs(tmp_path, "all").read_depth(2)


def test_other_sets_splits_and_options_are_refused(tmp_path):
    with pytest.raises(DepthError, match="depth set is 'nyu', expected nyuv2, nyu_folder, depth_pairs"):
        create("nyu", tmp_path, "train")
    with pytest.raises(DepthError, match="split of depth_pairs is 'test', expected train, val, all"):
        create("depth_pairs", tmp_path, "test")
    with pytest.raises(DepthError, match="depth_pairs has no option 'target', expected pairs, images"):
        create("depth_pairs", tmp_path, "train", target="raw")


@needs("depth")
def test_the_real_pairs():
    scenes = {
        "train": ["7scenes", "nyu_depth_v2/dining_room"],
        "val": ["nyu_depth_v2/basement", "nyu_depth_v2/living_room"],
    }
    train, val = (create("depth_pairs", DATA / "depth", split, scenes=scenes) for split in ("train", "val"))
    assert (len(train), len(val), len(create("depth_pairs", DATA / "depth", "all"))) == (10, 4, 16)
    for depths in (train, val):
        for index in range(len(depths)):
            depth = depths.read_depth(index)
            assert depths.read_image(index).size == (640, 480)
            assert depth.shape == (480, 640)
            assert 0 == depth.min() < np.median(depth[depth > 0]) < 5
            assert depth.max() <= 10


@needs("depth")
def test_the_real_kitti_depth_is_sparse_and_within_its_range():
    kitti = DepthPairs(DATA / "depth", "val", scenes={"val": ["kitti"]})
    for index in range(len(kitti)):
        depth = kitti.read_depth(index)
        assert 0.1 < (depth > 0).mean() < 0.3
        assert 60 < depth.max() < 90


@needs("depth")
def test_the_real_disparities_are_no_depth():
    pairs = DepthPairs(DATA / "depth" / "middlebury2005", "all", images="RGB/*.jpg", depths="Depth/*.png", units=1000)
    with pytest.raises(DepthError, match=r"art.png: is a picture of mode L, expected one channel of 16-bit"):
        pairs.read_depth(0)
