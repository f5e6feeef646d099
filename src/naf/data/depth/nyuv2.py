"""NYU Depth v2 (Silberman et al., ECCV 2012), the labelled part as its authors give it: one MATLAB file.

`nyu_depth_v2_labeled.mat` holds 1,449 images with the sensor's depth and the same with holes painted in, in metres;
`splits.mat` says which 795 are for training and which 654 for testing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from naf.data.depth.base import DepthError, DepthSet, check_split

_INDICES = {"train": "trainNdxs", "val": "testNdxs"}
_OFFICIAL = {"train": 795, "val": 654, "all": 1449}
_TARGETS = {"raw": "rawDepths", "inpainted": "depths"}


class NyuV2(DepthSet):
    """The labelled images of NYU Depth v2.

    Args:
        root: folder of both files, or the folder above `nyuv2`.
        split: "train", "val" (the authors' test images) or "all".
        target: "raw", what the sensor measured, as Probe3D takes it, or "inpainted", without holes.
        labelled: name of the file with the images.
        splits: name of the file with the splits.

    Raises:
        DepthError: if a file is missing, damaged or not what it should be, or h5py or scipy are not installed.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        target: Literal["raw", "inpainted"] = "raw",
        labelled: str = "nyu_depth_v2_labeled.mat",
        splits: str = "splits.mat",
    ) -> None:
        key = "nyuv2"
        check_split(key, split)
        if target not in _TARGETS:
            raise DepthError(f"target of {key} is {target!r}, expected raw or inpainted")
        root = Path(root)
        if (root / "nyuv2").is_dir():
            root = root / "nyuv2"
        self.path, self.target = root / labelled, _TARGETS[target]
        count = self._check_arrays()
        # The authors count from 1.
        numbers = range(1, count + 1) if split == "all" else _read_split(root / splits, _INDICES[split], count)
        self._rows = [number - 1 for number in numbers]
        super().__init__(
            key,
            split,
            [f"{number:04d}" for number in numbers],
            listed_in=root / splits,
            expected=_OFFICIAL[split],
            remarks=["in-painted depth"] if target == "inpainted" else [],
        )

    def read_image(self, index: int) -> Image.Image:
        """See `DepthSet.read_image`."""
        stored = self._read("images", index)  # (3, W, H): MATLAB's order of axes, reversed
        return Image.fromarray(np.ascontiguousarray(stored.transpose(2, 1, 0)))

    def files(self, index: int) -> tuple[Path, ...]:
        """The one file that holds all."""
        del index
        return (self.path,)

    def read_depth(self, index: int) -> NDArray[np.float32]:
        """See `DepthSet.read_depth`."""
        return np.ascontiguousarray(self._read(self.target, index).T, dtype=np.float32)

    def _read(self, name: str, index: int) -> NDArray[Any]:
        # Opened for each image: an open HDF5 file cannot be shared with the workers of a loader.
        with _open(self.path) as file:
            try:
                return np.asarray(file[name][self._rows[index]])
            except OSError as error:
                raise DepthError(f"{self.path}: {name} of image {self.names[index]} is damaged: {error}") from error

    def _check_arrays(self) -> int:
        """Number of images; the arrays must be there and fit each other."""
        with _open(self.path) as file:
            shapes = {}
            for name in ("images", self.target):
                if name not in file or not hasattr(file[name], "shape"):
                    raise DepthError(f"{self.path}: has no array {name}, expected images and {self.target}")
                shapes[name] = tuple(file[name].shape)
            kind = file["images"].dtype
        images, depths = shapes["images"], shapes[self.target]
        if len(images) != 4 or images[1] != 3 or depths != (images[0], *images[2:]) or kind != np.uint8:
            raise DepthError(
                f"{self.path}: images are {images} {kind}, {self.target} {depths}, expected (N, 3, W, H) uint8 and"
                " (N, W, H)"
            )
        return int(images[0])


def _open(path: Path) -> Any:
    """An HDF5 file, for reading."""
    h5py = _package("h5py")
    if not path.is_file():
        raise DepthError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}, expected an HDF5 file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DepthError(f"{path}: is no HDF5 file or is damaged: {error}") from error


def _read_split(path: Path, name: str, count: int) -> list[int]:
    """Numbers of the images of a split, from 1, in the file's order."""
    if not path.is_file():
        raise DepthError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}, expected the splits of nyuv2")
    is_hdf5 = _package("h5py").is_hdf5(path)  # as MATLAB writes from version 7.3
    stored = _hdf5_array(path, name) if is_hdf5 else _matlab_array(path, name)
    if stored is None:
        raise DepthError(f"{path}: has no array {name}, expected {' and '.join(_INDICES.values())}")
    numbers = np.asarray(stored).ravel()
    wrong = [number for number in numbers.tolist() if number != int(number) or not 1 <= number <= count]
    if wrong or len(set(numbers.tolist())) < len(numbers):
        came = f"has {wrong[0]}" if wrong else "has a number twice"
        raise DepthError(f"{path}: {name} {came}, expected different whole numbers from 1 to {count}")
    return [int(number) for number in numbers]


def _matlab_array(path: Path, name: str) -> Any:
    """An array of a MATLAB file up to version 7, or None."""
    io = _package("scipy.io")
    try:
        return io.loadmat(path, variable_names=[name]).get(name)
    except Exception as error:  # scipy fails on damaged files in every way
        raise DepthError(f"{path}: is no MATLAB file or is damaged: {error}") from error


def _hdf5_array(path: Path, name: str) -> Any:
    """An array of an HDF5 file, or None."""
    with _open(path) as file:
        return file[name][()] if name in file else None


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise DepthError(f"nyuv2 needs {name.split('.')[0]}: pip install 'naf-upsampler[eval]'") from None
