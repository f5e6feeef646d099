"""Stores written in bands: what is read back, resumed, refused."""

import shutil
import sys
import types

import numpy as np
import pytest
import torch
import zarr
from safetensors import safe_open

from naf.data import band_store
from naf.data.resume import SavedState
from naf.data.store import store_class
from tests.helpers import randn

SHAPE = (5, 37, 21)
METADATA = {"photo": "cat.png", "stride": 16}
every_kind = pytest.mark.parametrize("suffix", [".zarr", ".safetensors"])


def opened(path, name="cat", shape=SHAPE, dtype=torch.float16, metadata=METADATA, settings="a1", **options):
    return store_class(path, dtype)(path, name, shape, dtype, metadata, settings, **options)


def fill(store, values, rows=10, until=None):
    """Write bands of rows from where the store is up to a row."""
    until = until or values.shape[1]
    while store.done < until:
        span = slice(store.done, min(store.done + rows, values.shape[1]))
        store.write(span, values[:, span])


def with_free_space(monkeypatch, folder, free):
    usage = shutil.disk_usage(folder)._replace(free=free)
    monkeypatch.setattr(band_store.shutil, "disk_usage", lambda _: usage)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_is_written_in_bands_is_read_back(tmp_path, suffix, dtype):
    values = randn(*SHAPE).to(dtype)
    store = opened(tmp_path / f"a{suffix}", dtype=dtype)
    assert not store.is_complete
    # Bands as the upsamplers give them: channels last in memory.
    fill(store, values.permute(1, 2, 0).contiguous().permute(2, 0, 1))
    assert torch.equal(store.read(slice(3, 30)), values[:, 3:30])
    store.finish()
    assert store.is_complete
    assert torch.equal(opened(tmp_path / f"a{suffix}", dtype=dtype).read(slice(0, 37)), values)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_safetensors_hold_what_other_programs_expect(tmp_path):
    values = randn(*SHAPE).bfloat16()
    store = opened(tmp_path / "a.safetensors", dtype=torch.bfloat16)
    fill(store, values)
    store.finish()
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert list(file.keys()) == ["features"]
        assert torch.equal(file.get_tensor("features"), values)
        metadata = file.metadata()
    assert (metadata["photo"], metadata["stride"], metadata["size"]) == ("cat.png", "16", "5x37x21")


def test_zarr_holds_an_array_a_map_with_metadata_and_chunks_of_all_channels(tmp_path):
    for name in ("cat", "dog"):
        store = opened(tmp_path / "a.zarr", name)
        fill(store, randn(*SHAPE).half())
        store.finish()
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert sorted(group) == ["cat", "dog"]
    array = group["cat"]
    assert array.metadata.zarr_format == 3
    assert (array.shape, array.dtype, array.chunks) == (SHAPE, np.float16, SHAPE)
    assert array.attrs["photo"] == "cat.png"
    assert array.attrs["complete"] is True
    assert array.metadata.dimension_names == ("channel", "row", "column")


@pytest.mark.parametrize(("channels", "dtype"), [(32, torch.float16), (384, torch.float32), (4096, torch.float32)])
def test_zarr_bands_are_whole_rows_of_chunks_of_a_few_megabytes(tmp_path, monkeypatch, channels, dtype):
    with_free_space(monkeypatch, tmp_path, 1 << 50)
    store = opened(tmp_path / "a.zarr", shape=(channels, 8192, 8192), dtype=dtype)
    _, rows, cols = zarr.open_array(tmp_path / "a.zarr/cat", mode="r").chunks
    assert rows == cols
    assert 1 << 20 <= channels * rows * cols * dtype.itemsize <= 4 << 20
    assert store.band_rows % rows == 0
    assert store.band_rows * 8192 * channels * dtype.itemsize <= 1 << 31


@every_kind
def test_a_stopped_run_goes_on_at_its_last_whole_band(tmp_path, suffix):
    values, path = randn(*SHAPE).half(), tmp_path / f"a{suffix}"
    first = opened(path)
    first.state["norm"] = torch.arange(3.0)
    fill(first, values, until=20)
    assert not path.is_file()
    again = opened(path)
    assert again.done == 20
    assert torch.equal(again.state["norm"], torch.arange(3.0))
    assert torch.equal(again.read(slice(0, 20)), values[:, :20])
    fill(again, values)
    again.finish()
    assert torch.equal(opened(path).read(slice(0, 37)), values)


@every_kind
def test_a_band_that_was_cut_off_is_written_again(tmp_path, suffix, monkeypatch):
    values, path = randn(*SHAPE).half(), tmp_path / f"a{suffix}"
    store = opened(path)
    fill(store, values, until=10)
    with monkeypatch.context() as patch:
        patch.setattr(store._record, "advance", lambda rows: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.write(slice(10, 20), torch.zeros(5, 10, 21))
    again = opened(path)
    assert again.done == 10
    fill(again, values)
    assert torch.equal(again.read(slice(0, 37)), values)


def test_rows_that_are_missing_in_zarr_are_nan(tmp_path):
    fill(opened(tmp_path / "a.zarr", shape=(64, 300, 300), dtype=torch.float32), torch.zeros(64, 128, 300), rows=128)
    array = zarr.open_array(tmp_path / "a.zarr/cat", mode="r")
    assert not np.isnan(array[:, :128]).any()
    assert np.isnan(array[:, 128:]).all()


@every_kind
@pytest.mark.parametrize("is_complete", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": "b2"}, "another image or other weights"),
        ({"metadata": {**METADATA, "stride": 14}}, "stride '16', now '14'"),
        ({"shape": (5, 37, 22)}, "size '5x37x21', now '5x37x22'"),
        ({"dtype": torch.float32}, "dtype 'float16', now 'float32'"),
    ],
)
def test_a_store_of_other_settings_is_refused_unless_it_may_be_overwritten(
    tmp_path, suffix, is_complete, change, message
):
    path, values = tmp_path / f"a{suffix}", randn(*SHAPE).half()
    store = opened(path)
    store.state["norm"] = torch.ones(1)
    fill(store, values, until=None if is_complete else 20)
    if is_complete:
        store.finish()
    with pytest.raises(ValueError, match=message):
        opened(path, **change)
    kept = opened(path)
    assert kept.done == (37 if is_complete else 20)
    replaced = opened(path, **change, overwrite=True)
    assert replaced.done == 0
    assert not replaced.state


@every_kind
def test_bands_out_of_order_and_an_early_end_are_refused(tmp_path, suffix):
    store = opened(tmp_path / f"a{suffix}")
    with pytest.raises(ValueError, match="rows begin at 10, expected 0"):
        store.write(slice(10, 20), torch.zeros(5, 10, 21))
    fill(store, randn(*SHAPE), until=10)
    with pytest.raises(ValueError, match="10 of 37 rows are written"):
        store.finish()
    assert not store.is_complete


@every_kind
def test_a_full_disk_is_told_before_anything_is_written(tmp_path, suffix, monkeypatch):
    with_free_space(monkeypatch, tmp_path, 1 << 30)
    with pytest.raises(ValueError, match=r"needs 4\.0 GiB, 1\.0 GiB are free"):
        opened(tmp_path / f"new/a{suffix}", shape=(32, 8192, 8192))
    assert not list(tmp_path.iterdir())


def test_what_no_store_can_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected \.zarr or \.safetensors"):
        store_class(tmp_path / "a.npy", torch.float32)
    with pytest.raises(ValueError, match="zarr cannot hold bfloat16"):
        store_class(tmp_path / "a.zarr", torch.bfloat16)
    (tmp_path / "a.zarr").write_text("mine")
    with pytest.raises(ValueError, match="is no zarr v3 group"):
        opened(tmp_path / "a.zarr")
    assert (tmp_path / "a.zarr").read_text() == "mine"


def test_the_end_of_one_map_leaves_the_record_of_another(tmp_path):
    cat, dog = (opened(tmp_path / "a.zarr", name) for name in ("cat", "dog"))
    fill(dog, randn(*SHAPE), until=10)
    fill(cat, randn(*SHAPE))
    cat.finish()
    assert opened(tmp_path / "a.zarr", "dog").done == 10
    fill(dog, randn(*SHAPE))
    dog.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_zarr_goes_on_where_a_run_was_killed_before_its_first_band(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    opened(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/cat/zarr.json").unlink()  # its folder is made before it
    store, values = opened(tmp_path / "a.zarr"), randn(*SHAPE).half()
    fill(store, values)
    assert torch.equal(store.read(slice(0, 37)), values)


def test_a_missing_or_old_zarr_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr.codecs", types.ModuleType("zarr.codecs"))  # as in version 2
    with pytest.raises(RuntimeError, match=r"zarr, version 3 or later: pip install 'naf-upsampler\[stream\]'"):
        store_class(tmp_path / "a.zarr", torch.float32)


def test_a_saved_state_is_a_mapping_on_disk(tmp_path):
    state = SavedState(tmp_path / "a.safetensors")
    assert dict(state) == {}
    state["x"], state["y"] = torch.ones(2, 3).T, torch.zeros(1)
    del state["y"]
    again = SavedState(tmp_path / "a.safetensors")
    assert list(again) == ["x"]
    assert torch.equal(again["x"], torch.ones(3, 2))
