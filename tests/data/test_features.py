"""Feature files."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from naf.data.features import write_features


@pytest.fixture
def features():
    return torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))


def test_safetensors_hold_features_and_metadata(tmp_path, features):
    write_features(tmp_path / "a.safetensors", features.bfloat16(), {"stride": 16})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("features"), features.bfloat16())
        assert file.metadata() == {"stride": "16"}


def test_npy_holds_the_array(tmp_path, features):
    write_features(tmp_path / "a.npy", features, {})
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), features.numpy())


def test_npy_refuses_bfloat16_and_other_suffixes_are_refused(tmp_path, features):
    with pytest.raises(ValueError, match="npy cannot hold bfloat16"):
        write_features(tmp_path / "a.npy", features.bfloat16(), {})
    with pytest.raises(ValueError, match=r"expected \.safetensors or \.npy"):
        write_features(tmp_path / "a.txt", features, {})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, features, monkeypatch):
    path = tmp_path / "a.npy"
    write_features(path, features, {})
    before = path.read_bytes()

    def full_disk(file, array, allow_pickle):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_features(path, features + 1, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
