"""NYU Depth v2 as files: both layouts, splits, missing files."""

import pytest

from naf.data.depth import DepthError, NyuFolder, create
from tests.data.depth.files import DATA, needs, write_depth, write_image


def write_mmseg(root, *names):
    for name in names:
        write_image(root / "images" / f"{name}.jpg")
        write_depth(root / "annotations" / f"{name}.png")
    return root


def write_sync(root, *names):
    for name in names:
        write_image(root / name)
        write_depth((root / name).with_suffix(".png").with_name(f"sync_depth_{name[-9:-4]}.png"))
    return root


def test_mmsegmentation(tmp_path):
    write_mmseg(tmp_path, "train/bookstore_0001d_00001", "train/attic_0001_00002", "test/bath_0001_00003")
    train, val = (create("nyu_folder", tmp_path, split) for split in ("train", "val"))
    assert train.names == ["train/attic_0001_00002.jpg", "train/bookstore_0001d_00001.jpg"]
    assert val.names == ["test/bath_0001_00003.jpg"]
    assert val.read_image(0).size == (6, 4)
    assert val.read_depth(0)[0].tolist() == [0, 0, 2, 2, 2, 2]
    assert len(NyuFolder(tmp_path, "all")) == 3


def test_sync(tmp_path):
    write_sync(
        tmp_path / "nyu",
        *("sync/attic/rgb_00000.jpg", "sync/attic/rgb_00010.jpg"),
        *("official_splits/train/bath/rgb_00045.jpg", "official_splits/test/hall/rgb_00001.jpg"),
    )
    train, val = (NyuFolder(tmp_path, split) for split in ("train", "val"))
    assert train.names == ["official_splits/train/bath/rgb_00045.jpg"]
    assert (train.expected, train.note) == (795, "1 of 795 images")
    assert val.names == ["official_splits/test/hall/rgb_00001.jpg"]
    assert val.expected == 654
    assert val.read_depth(0)[1, 1] == 2

    scenes = {"train": ["sync"], "val": ["official_splits/test"]}
    assert NyuFolder(tmp_path, "train", scenes=scenes).names == ["sync/attic/rgb_00000.jpg", "sync/attic/rgb_00010.jpg"]
    assert NyuFolder(tmp_path, "train", scenes=scenes).expected is None
    assert len(NyuFolder(tmp_path, "all")) == 4


def test_without_split_folders_there_is_no_split(tmp_path):
    write_mmseg(tmp_path, "bookstore_0001d_00001")
    assert NyuFolder(tmp_path, "all").names == ["bookstore_0001d_00001.jpg"]
    with pytest.raises(DepthError, match=r"images: has no split 'train', expected scenes=.*split='all'"):
        NyuFolder(tmp_path, "train")


def test_an_image_without_depth_is_named(tmp_path):
    write_image(write_mmseg(tmp_path / "a", "train/one") / "images/train/two.jpg")
    with pytest.raises(DepthError, match=r"annotations/train/two.png: no such file"):
        NyuFolder(tmp_path / "a", "train")
    write_image(write_sync(tmp_path / "b", "train/hall/rgb_00000.jpg") / "train/hall/rgb_00001.jpg")
    with pytest.raises(DepthError, match=r"train/hall/sync_depth_00001.png: no such file"):
        NyuFolder(tmp_path / "b", "train")


def test_a_folder_of_another_layout_is_refused(tmp_path):
    with pytest.raises(DepthError, match=r"has neither images and annotations nor rgb_\*"):
        NyuFolder(tmp_path, "train")
    write_image(tmp_path / "images" / "train" / "a.jpg")
    with pytest.raises(DepthError, match=r"annotations: no such folder, expected the depth maps of"):
        NyuFolder(tmp_path, "train")
    with pytest.raises(DepthError, match="nowhere is not there"):
        NyuFolder(tmp_path / "nowhere", "train")
    with pytest.raises(DepthError, match="split of nyu_folder is 'test'"):
        NyuFolder(tmp_path, "test")


@needs("layouts/nyu")
def test_the_real_mmsegmentation_layout():
    depths = create("nyu_folder", DATA / "layouts", "all")
    assert depths.names == ["bookstore_0001d_00001.jpg"]
    depth = depths.read_depth(0)
    assert (depths.read_image(0).size, depth.shape) == ((160, 120), (120, 160))
    assert 0 == depth.min() < depth.max() == 10


@needs("depth")
def test_the_real_sync_layout():
    scenes = {"train": ["dining_room"], "val": ["basement", "living_room"]}
    train, val = (create("nyu_folder", DATA / "depth/nyu_depth_v2", split, scenes=scenes) for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 4)
    for index in range(4):
        assert val.read_depth(index).shape == (480, 640) == val.read_image(index).size[::-1]
