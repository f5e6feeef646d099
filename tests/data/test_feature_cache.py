"""Features on disk: nothing lost, nothing mixed up, nothing half-written."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from naf.backbones import Hog
from naf.backbones.fingerprint import fingerprint_of
from naf.data import feature_cache as module
from naf.data.feature_cache import CacheError, FeatureCache
from tests.helpers import Tiny, randn


def shards(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_put_is_got_before_and_after_it_is_written(tmp_path):
    cache = FeatureCache(tmp_path / "new" / "folder", "f")
    features = {f"photo {i}|32": randn(4, 3, i + 1, seed=i) for i in range(5)}
    assert all(cache.get(key) is None for key in features)
    for key, value in features.items():
        assert torch.equal(cache.put(key, value), value.half())
    assert not shards(cache.folder)
    assert all(torch.equal(cache.get(key), value.half()) for key, value in features.items())
    cache.flush()
    cache.flush()  # nothing more to write
    assert len(shards(cache.folder)) == 1
    for reader in (cache, FeatureCache(cache.folder, "f")):
        assert len(reader) == 5
        assert all(torch.equal(reader.get(key), value.half()) for key, value in features.items())


def test_shards_are_written_as_they_fill(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SHARD_BYTES", 1000)
    monkeypatch.setattr(module, "_OPEN_SHARDS", 2)
    cache = FeatureCache(tmp_path, "f", torch.float32)
    for i in range(40):
        cache.put(str(i), randn(25, seed=i))  # 100 bytes
    assert len(shards(tmp_path)) == 4
    reader = FeatureCache(tmp_path, "f", torch.float32)
    assert all(torch.equal(reader.get(str(i)), randn(25, seed=i)) for i in range(40))


def test_what_is_put_is_a_copy(tmp_path):
    cache = FeatureCache(tmp_path, "f", torch.float32)
    features = torch.zeros(3)
    cache.put("a", features)
    features += 1
    assert torch.equal(cache.get("a"), torch.zeros(3))


def test_several_writers_share_a_folder(tmp_path):
    one, two = FeatureCache(tmp_path, "f"), FeatureCache(tmp_path, "f")
    one.put("a", torch.ones(2))
    one.flush()
    assert two.get("a") is None
    two.put("b", torch.zeros(2))
    two.flush()
    assert torch.equal(two.get("a"), torch.ones(2).half())
    assert len(FeatureCache(tmp_path, "f")) == 2


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (("g", torch.float16), "has fingerprint 'f', expected 'g'"),
        (("f", torch.float32), "has dtype 'float16', expected 'float32'"),
    ],
)
def test_features_of_another_backbone_or_dtype_are_refused(tmp_path, other, message):
    cache = FeatureCache(tmp_path, "f")
    cache.put("a", torch.ones(2))
    cache.flush()
    with pytest.raises(CacheError, match=message):
        FeatureCache(tmp_path, *other)
    assert len(shards(tmp_path)) == 1


def test_files_of_another_kind_are_refused_and_kept(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "features-of-mine.safetensors")
    with pytest.raises(CacheError, match="has format None"):
        FeatureCache(tmp_path, "f")
    assert shards(tmp_path) == ["features-of-mine.safetensors"]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"\xff" * 50 + data[50:]])
def test_a_damaged_shard_is_dropped_with_a_warning(tmp_path, caplog, damage):
    for key in "ab":
        cache = FeatureCache(tmp_path, "f")
        cache.put(key, torch.ones(2))
        cache.flush()
    first = tmp_path / cache._shard_of["a"]
    first.write_bytes(damage(first.read_bytes()))
    with caplog.at_level(logging.WARNING, "naf.data.feature_cache"):
        reader = FeatureCache(tmp_path, "f")
    assert first.name in caplog.text
    assert not first.exists()
    assert reader.get("a") is None
    assert torch.equal(reader.get("b"), torch.ones(2).half())
    reader.put("a", torch.zeros(2))
    reader.flush()
    assert torch.equal(FeatureCache(tmp_path, "f").get("a"), torch.zeros(2).half())


def test_a_shard_that_vanishes_is_missed_and_no_more(tmp_path):
    cache = FeatureCache(tmp_path, "f")
    cache.put("a", torch.ones(2))
    cache.flush()
    reader = FeatureCache(tmp_path, "f")
    reader._open.clear()
    (tmp_path / shards(tmp_path)[0]).unlink()
    assert reader.get("a") is None
    assert len(reader) == 0


@pytest.mark.parametrize("kind", [OSError, SafetensorError])  # safetensors' own writer wraps the system's error
def test_a_full_disk_is_a_clear_error_and_leaves_no_part(tmp_path, monkeypatch, kind):
    cache = FeatureCache(tmp_path, "f")
    cache.put("a", torch.ones(2))

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise kind("No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", full)
        with pytest.raises(CacheError, match=rf"cache {tmp_path}: .*No space left on device.*Free space there"):
            cache.flush()
    assert not shards(tmp_path)
    cache.flush()  # nothing was lost
    assert torch.equal(FeatureCache(tmp_path, "f").get("a"), torch.ones(2).half())


def test_a_folder_that_cannot_be_made_or_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="file cannot be made"):
        FeatureCache(tmp_path / "file", "f")
    cache = FeatureCache(tmp_path / "gone", "f")
    cache.put("a", torch.ones(2))
    cache.folder.rmdir()
    with pytest.raises(CacheError, match="features cannot be written to the cache"):
        cache.flush()


def test_values_that_the_dtype_cannot_hold_are_refused(tmp_path):
    with pytest.raises(CacheError, match=r"values up to 70000, which the cache's float16 cannot hold"):
        FeatureCache(tmp_path, "f").put("a", torch.tensor([1.0, -70000.0]))
    assert FeatureCache(tmp_path, "f", torch.bfloat16).put("a", torch.tensor([70000.0])).isfinite().all()


class Weighted(Tiny):
    def __init__(self, value=1.0, layer=0):
        super().__init__()
        self.scale, self.layer = nn.Parameter(torch.full((1,), value)), layer
        self.register_buffer("shift", torch.zeros(()), persistent=False)


def test_a_fingerprint_tells_backbones_apart():
    backbones = [Tiny(), Tiny(max_side=64), Weighted(), Weighted(2.0), Weighted(layer=1), Hog(), Hog(stride=8)]
    shifted, half = Weighted(), Weighted().half()
    shifted.shift += 1
    pooled, wider = Tiny(), Tiny()  # what a module is set to is in no weight
    pooled.pool, wider.pool = torch.nn.MaxPool2d(3, dilation=1), torch.nn.MaxPool2d(3, dilation=2)
    prints = [fingerprint_of(backbone) for backbone in (*backbones, shifted, half, pooled, wider)]
    assert len(set(prints)) == len(prints)


def test_a_fingerprint_stays_as_it_is_through_use():
    backbone = Hog()
    before = fingerprint_of(backbone)
    assert fingerprint_of(Hog()) == before
    backbone(torch.rand(1, 3, 32, 32))
    assert fingerprint_of(backbone.eval()) == before
