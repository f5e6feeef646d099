"""The MATLAB file of NYU Depth v2: order of axes, splits, targets, damaged files."""

import pickle

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from naf.data.depth import DepthError, NyuV2, create

COUNT, HEIGHT, WIDTH = 5, 4, 6
MAT = "nyu_depth_v2_labeled.mat"


def row_major():
    """Images (N, H, W, 3) and both depths (N, H, W), every value another."""
    pixels = np.arange(COUNT * HEIGHT * WIDTH * 3) % 251
    images = pixels.astype(np.uint8).reshape(COUNT, HEIGHT, WIDTH, 3)
    painted = np.linspace(0.5, 9.5, COUNT * HEIGHT * WIDTH, dtype=np.float32).reshape(COUNT, HEIGHT, WIDTH)
    raw = painted.copy()
    raw[:, 1, 2] = 0
    return images, raw, painted


def write(root, **replaced):
    """Both files, as MATLAB writes them: axes reversed, numbers from 1 as a column."""
    root.mkdir(parents=True, exist_ok=True)
    images, raw, painted = row_major()
    arrays = {
        "images": images.transpose(0, 3, 2, 1),
        "rawDepths": raw.transpose(0, 2, 1),
        "depths": painted.transpose(0, 2, 1),
    } | replaced
    with h5py.File(root / MAT, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
    savemat(root / "splits.mat", {"trainNdxs": np.array([[1.0], [2], [5]]), "testNdxs": np.array([[3.0], [4]])})
    return root


def test_rows_are_rows_and_columns_are_columns(tmp_path):
    images, raw, _ = row_major()
    depths = NyuV2(write(tmp_path), "all")
    assert len(depths) == COUNT
    for index in range(COUNT):
        image = depths.read_image(index)
        assert (image.mode, image.size) == ("RGB", (WIDTH, HEIGHT))
        assert np.array_equal(np.asarray(image), images[index])
        depth = depths.read_depth(index)
        assert depth.dtype == np.float32
        assert np.array_equal(depth, raw[index])


def test_splits_count_from_one(tmp_path):
    _, raw, _ = row_major()
    train, val = (create("nyuv2", write(tmp_path), split) for split in ("train", "val"))
    assert train.names == ["0001", "0002", "0005"]
    assert val.names == ["0003", "0004"]
    assert np.array_equal(train.read_depth(2), raw[4])
    assert np.array_equal(val.read_depth(0), raw[2])


def test_the_target_is_raw_or_inpainted(tmp_path):
    _, _, painted = row_major()
    write(tmp_path)
    assert NyuV2(tmp_path, "val").read_depth(0)[1, 2] == 0
    filled = NyuV2(tmp_path, "val", target="inpainted")
    assert np.array_equal(filled.read_depth(0), painted[2])
    assert "in-painted depth" in filled.note
    assert "in-painted depth" not in NyuV2(tmp_path, "val").note
    with pytest.raises(DepthError, match="target of nyuv2 is 'both', expected raw or inpainted"):
        NyuV2(tmp_path, "val", target="both")


def test_the_official_counts_are_known(tmp_path):
    train, val = (NyuV2(write(tmp_path), split) for split in ("train", "val"))
    assert (train.key, train.split, train.expected, val.expected) == ("nyuv2", "train", 795, 654)
    assert train.note == "3 of 795 images"
    assert repr(val) == "nyuv2 val: 2 images"


def test_the_folder_above_is_taken(tmp_path):
    write(tmp_path / "nyuv2")
    assert len(NyuV2(tmp_path, "train")) == 3


def test_splits_in_hdf5_are_read(tmp_path):
    write(tmp_path)
    (tmp_path / "splits.mat").unlink()
    # Version 7.3 has a header of 512 bytes before the HDF5.
    with h5py.File(tmp_path / "splits.mat", "w", userblock_size=512) as file:
        file["testNdxs"] = np.array([[2.0, 4.0]])
    assert NyuV2(tmp_path, "val").names == ["0002", "0004"]


def test_workers_of_a_loader_can_have_it(tmp_path):
    depths = NyuV2(write(tmp_path), "train")
    depths.read_depth(0)
    copy = pickle.loads(pickle.dumps(depths))
    assert np.array_equal(copy.read_depth(1), depths.read_depth(1))


@pytest.mark.parametrize("name", [MAT, "splits.mat"])
def test_a_missing_file_is_named(tmp_path, name):
    (write(tmp_path) / name).unlink()
    with pytest.raises(DepthError, match=f"{name}: no such file"):
        NyuV2(tmp_path, "train")


@pytest.mark.parametrize("name", [MAT, "splits.mat"])
def test_a_damaged_file_is_named(tmp_path, name):
    (write(tmp_path) / name).write_bytes(b"no MATLAB file, whatever its name says" * 20)
    with pytest.raises(DepthError, match=f"{name}: is no .* file or is damaged"):
        NyuV2(tmp_path, "train")


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"rawDepths": None}, "has no array rawDepths, expected images and rawDepths"),
        ({"images": None}, "has no array images"),
        ({"rawDepths": np.ones((COUNT, HEIGHT, WIDTH))}, r"rawDepths \(5, 4, 6\), expected \(N, 3, W, H\)"),
        ({"images": np.ones((COUNT, 3, WIDTH, HEIGHT))}, "images are .* float64"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, replaced, message):
    with pytest.raises(DepthError, match=message):
        NyuV2(write(tmp_path, **replaced), "train")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"trainNdxs": [1, 6]}, "trainNdxs has 6, expected different whole numbers from 1 to 5"),
        ({"trainNdxs": [0, 1]}, "trainNdxs has 0"),
        ({"trainNdxs": [1.5]}, "trainNdxs has 1.5"),
        ({"trainNdxs": [2, 2]}, "trainNdxs has a number twice"),
        ({"testNdxs": [2]}, "has no array trainNdxs, expected trainNdxs and testNdxs"),
        ({"trainNdxs": []}, "no images of split 'train'"),
    ],
)
def test_splits_that_do_not_fit_are_named(tmp_path, arrays, message):
    write(tmp_path)
    savemat(tmp_path / "splits.mat", arrays)
    with pytest.raises(DepthError, match=f"splits.mat: {message}"):
        NyuV2(tmp_path, "train")


@pytest.mark.parametrize("package", ["h5py", "scipy.io"])
def test_missing_packages_are_named(tmp_path, monkeypatch, package):
    write(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(DepthError, match=rf"nyuv2 needs {package[:5]}.*pip install 'naf-upsampler\[eval\]'"):
        NyuV2(tmp_path, "train")
