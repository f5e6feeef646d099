"""Whether a repository's files can be had."""

import pytest

from naf.backbones.reach import is_within_reach

FILES = ("model.safetensors", "config.json")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and a hub that must not be asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: pytest.fail("asked the hub"))
    return tmp_path


def keep(cache, file, revision="main"):
    """A file in the cache as the hub's client lays it down."""
    repository, commit = cache / "models--user--model", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / revision).write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / file).write_text("{}")


def test_what_is_in_the_cache_is_not_asked_for(cache):
    keep(cache, "config.json")
    assert is_within_reach("user/model", files=FILES)


def test_another_revision_is_another_matter(cache, monkeypatch):
    keep(cache, "config.json", "v2")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert is_within_reach("user/model", files=FILES, revision="v2")
    assert not is_within_reach("user/model", files=FILES)


@pytest.mark.parametrize(("status", "expected"), [(200, True), (302, True), (404, False), (401, False)])
def test_the_hub_is_asked_where_the_cache_has_nothing(cache, monkeypatch, status, expected):
    asked = []

    class Session:
        status_code = status

        def head(self, address, timeout):
            asked.append(address)
            return self

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    assert is_within_reach("user/model", files=FILES) is expected
    [address] = asked
    assert address.endswith("/user/model/resolve/main/config.json")


def test_a_hub_that_fails_is_out_of_reach(cache, monkeypatch):
    class Session:
        def head(self, address, timeout):
            raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    assert not is_within_reach("user/model", files=FILES)
