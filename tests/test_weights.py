"""Weights: files round trip, anything doubtful is refused, nothing is unpickled."""

import contextlib
import dataclasses
import hashlib
import http.server
import io
import logging
import os
import pickle
import re
import socketserver
import sys
import threading
import types
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save_file

import naf
from naf import releases, weights
from naf.releases import find_release, releases_of
from naf.weights import WeightsError
from tests.helpers import config_of, randn, small

CONFIG = {"dim": 16, "heads_attn": 2, "heads_rope": 1, "kernel_size": 3, "img_layers": 1}
FIRST, LAST = "image_encoder.encoder.0.weight", "image_encoder.sem_encoder.1.conv2.bias"


def fresh(seed=0, **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return naf.create("naf", weights=None, **{**CONFIG, **config})


def snapshot(upsampler):
    return {key: tensor.clone() for key, tensor in upsampler.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def as_bytes(state, **options):
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


# Files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("as_string", [False, True])
def test_a_saved_state_dict_loads_again(tmp_path, suffix, as_string):
    trained, path = fresh(1), tmp_path / f"weights{suffix}"
    save_file(trained.state_dict(), path) if suffix == ".safetensors" else torch.save(trained.state_dict(), path)
    path = str(path) if as_string else path
    restored = naf.create("naf", weights=path, **CONFIG)
    assert same(restored.state_dict(), trained.state_dict())
    assert restored.weights_source == str(path)
    assert not restored.training
    other = fresh(2)
    naf.load_checkpoint(other, path)
    assert same(other.state_dict(), trained.state_dict())


def test_a_file_of_the_older_torch_format_loads(tmp_path):
    trained, path = fresh(1), tmp_path / "old.pth"
    torch.save(trained.state_dict(), path, _use_new_zipfile_serialization=False)
    assert same(naf.create("naf", weights=path, **CONFIG).state_dict(), trained.state_dict())


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_training_checkpoint_is_unwrapped(tmp_path, key):
    trained, path = fresh(1), tmp_path / "last.pth"
    torch.save({"epoch": 3, key: trained.state_dict(), "optimizer": {"lr": 1e-3}}, path)
    assert same(naf.create("naf", weights=path, **CONFIG).state_dict(), trained.state_dict())


def test_a_state_dict_loads_and_is_copied():
    trained = fresh(1)
    state = snapshot(trained)
    restored = naf.create("naf", weights=state, **CONFIG)
    assert restored.weights_source == "state dict"
    state[FIRST].zero_()
    assert same(restored.state_dict(), trained.state_dict())


def test_a_half_precision_file_fills_a_float32_network_and_leaves_the_periods_exact(tmp_path):
    trained, path = fresh(1, rope_base=37.0), tmp_path / "half.safetensors"
    save_file({key: tensor.bfloat16() for key, tensor in trained.state_dict().items()}, path)
    restored = naf.create("naf", weights=path, **CONFIG, rope_base=37.0)
    assert {tensor.dtype for tensor in restored.state_dict().values()} == {torch.float32}
    assert torch.equal(restored.state_dict()[FIRST], trained.state_dict()[FIRST].bfloat16().float())
    periods = "image_encoder.rope.periods"
    assert torch.equal(restored.state_dict()[periods], trained.state_dict()[periods])


def test_weights_of_another_rope_base_are_refused():
    with pytest.raises(WeightsError, match=r"rope.periods"):
        naf.load_checkpoint(fresh(rope_base=50.0), fresh(rope_base=100.0).state_dict())


def test_every_misfit_is_listed_and_nothing_is_loaded(tmp_path):
    upsampler = fresh(0)
    before, state = snapshot(upsampler), snapshot(fresh(1))
    del state[FIRST], state[LAST]
    state["extra.one"], state["extra.two"] = torch.zeros(2, 5), torch.zeros(())
    state["image_encoder.encoder.0.bias"] = torch.zeros(9)
    state["image_encoder.encoder.1.norm1.weight"] = torch.zeros(8, 1)
    path = tmp_path / "misfit.safetensors"
    save_file(state, path)
    for source in (state, path):
        with pytest.raises(WeightsError) as caught:
            naf.load_checkpoint(upsampler, source)
        message = str(caught.value)
        for part in (
            "does not fit NAF",
            f"missing: {FIRST} (8, 3, 1, 1)",
            f"missing: {LAST} (8,)",
            "unexpected: extra.one (2, 5)",
            "unexpected: extra.two ()",
            "wrong shape: image_encoder.encoder.0.bias is (9,), expected (8,)",
            "wrong shape: image_encoder.encoder.1.norm1.weight is (8, 1), expected (8,)",
        ):
            assert part in message
        assert message.count("\n") == 6
        assert same(snapshot(upsampler), before)


def test_weights_of_another_configuration_do_not_fit():
    with pytest.raises(WeightsError, match=r"wrong shape: .*expected"):
        naf.create("naf", weights=fresh(dim=32).state_dict(), **CONFIG)


def test_weights_for_features_of_another_width_say_which_releases_there_are():
    state = naf.create("jafar", weights=None, v_dim=16, qk_dim=16).state_dict()
    with pytest.raises(WeightsError, match=r"features of 8 channels\. Releases: official:vit_base.*\(768\)"):
        naf.create("jafar", weights=state, **config_of("jafar"))


def test_a_state_dict_of_anything_but_tensors_is_refused():
    state = {**fresh().state_dict(), FIRST: "text"}
    with pytest.raises(WeightsError, match=FIRST):
        naf.load_checkpoint(fresh(), state)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "folder"])
def test_a_missing_file_is_named(tmp_path, suffix, make):
    path = tmp_path / f"nowhere{suffix}"
    make(path)
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        naf.create("naf", weights=path, **CONFIG)


@pytest.mark.parametrize(
    "content",
    [torch.zeros(3), [torch.zeros(3)], {"a": 1}, {"state_dict": {"a": [1, 2]}}, "text", None, 3],
    ids=["tensor", "list", "number", "wrapped_list", "text", "none", "integer"],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="expected a state dict"):
        naf.create("naf", weights=path, **CONFIG)


# torch.load may warn of an odd pickle protocol before it refuses the file.
odd_protocol = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


class Intruder:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


MALICIOUS = {
    "torch_file": lambda payload: as_bytes(payload),
    "older_torch_file": lambda payload: as_bytes(payload, _use_new_zipfile_serialization=False),
    "plain_pickle": pickle.dumps,
}


@odd_protocol
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"state_dict": {FIRST: x}}], ids=["bare", "wrapped"])
@pytest.mark.parametrize("write", MALICIOUS.values(), ids=MALICIOUS)
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path, write, wrap, suffix):
    trace, path = tmp_path / "trace", tmp_path / f"weights{suffix}"
    path.write_bytes(write(wrap(Intruder(trace))))
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        naf.create("naf", weights=path, **CONFIG)
    assert not trace.exists()


def test_the_malicious_file_would_have_run_if_it_were_unpickled(tmp_path):
    trace = tmp_path / "trace"
    pickle.loads(MALICIOUS["plain_pickle"](Intruder(trace)))
    assert trace.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, suffix, share):
    path, state = tmp_path / f"weights{suffix}", fresh().state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        naf.create("naf", weights=path, **CONFIG)


@odd_protocol
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(content=b"<!DOCTYPE html><html>404: Not Found</html>")
@example(content=b"version https://git-lfs.github.com/spec/v1\noid sha256:c096\n")
@example(content=b"Not Found")
@example(content=b"hello, these are no weights\n")
def test_a_file_of_anything_else_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        naf.create("naf", weights=path, **CONFIG)


@odd_protocol
@pytest.mark.parametrize("zipped", [True, False])
@given(position=st.integers(0, 1500), value=st.integers(0, 255), kept=st.sampled_from([1.0, 0.9]))
def test_a_changed_byte_gives_no_error_but_ours(tmp_path, zipped, position, value, kept):
    content = bytearray(as_bytes(fresh().state_dict(), _use_new_zipfile_serialization=zipped))
    content[position] = value
    path = tmp_path / "weights.pth"
    path.write_bytes(content[: int(kept * len(content))])
    with contextlib.suppress(WeightsError):  # a change among the numbers or in padding goes unseen
        naf.create("naf", weights=path, **CONFIG)
        assert kept == 1.0


# The official release -----------------------------------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.requests = 0
        self.content = b""
        self.url = f"http://127.0.0.1:{self.server_address[1]}/release/naf_release.pth"


class Serve(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        if not self.server.content:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        pass


class Gibberish(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.requests += 1
        self.rfile.readline()
        self.wfile.write(b"this is no HTTP\r\n\r\n")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch hub cache."""
    previous = torch.hub._hub_dir
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub"
    torch.hub._hub_dir = previous


@pytest.fixture
def server(request, hub, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    handler = getattr(request, "param", Serve)
    with Server(handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def publish(monkeypatch, **changes):
    """Put NAF's release in the place of all others, changed; by default it takes the arguments of a small network."""
    record = dataclasses.replace(find_release("naf", "naf"), **{"config": {}, **changes})
    monkeypatch.setattr(releases, "RELEASES", (record,))
    return record


def official():
    return releases_of("naf")[0]


@pytest.fixture
def release(server, monkeypatch):
    """A release of a small network, published at the server under its right hash."""
    trained = fresh(1)
    server.content = as_bytes(trained.state_dict())
    publish(monkeypatch, url=server.url, sha256=hashlib.sha256(server.content).hexdigest(), size=len(server.content))
    return trained


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_official_release_is_downloaded_once(release, server, hub):
    for _ in range(2):
        upsampler = naf.create("naf", weights="official", **CONFIG)
        assert same(upsampler.state_dict(), release.state_dict())
        assert upsampler.weights_source == "official release"
    assert server.requests == 1
    assert files_in(hub) == ["naf_release.pth"]
    assert official().path.read_bytes() == server.content


def test_torch_hub_gives_the_official_release_in_evaluation_mode(release, server, hub):
    root = Path(__file__).parents[1]
    upsampler = torch.hub.load(str(root), "naf", source="local", pretrained=True, **CONFIG)
    assert same(upsampler.state_dict(), release.state_dict())
    assert not upsampler.training


def test_a_changed_release_is_refused_and_leaves_nothing_behind(release, server, hub):
    server.content = as_bytes(fresh(2).state_dict())
    with pytest.raises(WeightsError, match=re.escape(server.url) + ".*refused"):
        naf.create("naf", weights="official", **CONFIG)
    assert files_in(hub) == []


def test_a_download_that_breaks_off_leaves_nothing_behind(release, server, hub):
    server.content = server.content[:-100]
    with pytest.raises(WeightsError, match=re.escape(server.url)):
        naf.create("naf", weights="official", **CONFIG)
    assert files_in(hub) == []


def test_a_cached_file_that_changed_is_refused(release, server, hub):
    naf.create("naf", weights="official", **CONFIG)
    path = official().path
    path.write_bytes(as_bytes(fresh(2).state_dict()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=f"refused.*{digest}.*{official().sha256}"):
        naf.create("naf", weights="official", **CONFIG)
    assert server.requests == 1


def test_a_release_that_is_not_there_says_where_to_put_the_file(release, server, hub):
    server.content = b""
    with pytest.raises(WeightsError, match=f"{re.escape(server.url)}.*404.*{re.escape(str(official().path))}"):
        naf.create("naf", weights="official", **CONFIG)
    assert files_in(hub) == []


def test_no_network_says_where_to_put_the_file(hub, monkeypatch):
    with Server(Serve) as unused:
        url = unused.url
    publish(monkeypatch, url=url)
    with pytest.raises(WeightsError, match=f"{re.escape(url)}.*{re.escape(str(official().path))}"):
        naf.create("naf", weights="official", **CONFIG)
    assert files_in(hub) == []


@pytest.mark.parametrize("server", [Gibberish], indirect=True)
def test_a_server_that_speaks_no_http_gives_an_error_of_ours(release, server, hub):
    with pytest.raises(WeightsError, match=re.escape(server.url)):
        naf.create("naf", weights="official", **CONFIG)
    assert files_in(hub) == []


def test_a_release_of_another_configuration_does_not_fit(release, hub):
    with pytest.raises(WeightsError, match="wrong shape"):
        naf.create("naf", weights="official", **{**CONFIG, "dim": 32})


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"interleave": True}, "interleave is True, but the release 'naf' needs False"),
        ({"heads_attn": 1}, "heads_attn is 1, but the release 'naf' needs 4"),
        ({"encoder": "resnet"}, "encoder is 'resnet'"),
        ({"key_pooling": "max"}, "key_pooling is 'max'"),
        ({"position": "none"}, "position is 'none'"),
    ],
)
def test_the_release_is_not_taken_for_a_network_that_only_its_shapes_fit(hub, config, fault):
    with pytest.raises(ValueError, match=re.escape(fault)):
        naf.create("naf", weights="official", **config)
    assert files_in(hub) == []


@pytest.mark.parametrize("name", ["naf+", "naf++"])
def test_a_method_without_release_says_so(hub, name):
    with pytest.raises(WeightsError, match=rf"{re.escape(repr(name))} has no official weights"):
        naf.create(name, weights="official", **CONFIG)


def test_every_release_is_told_in_full():
    known = releases_of()
    assert len({(release.upsampler, release.name) for release in known}) == len(known)
    assert len({release.path for release in known}) == len(known)
    for release in known:
        assert release.upsampler in naf.list_upsamplers()
        assert release.url.startswith("https://")
        assert release.sha256 is None or re.fullmatch("[0-9a-f]{64}", release.sha256)
        assert release.licence
        assert release.paper
        assert release.trained_on
        assert find_release(release.upsampler, release.name) is release
        with pytest.raises(dataclasses.FrozenInstanceError):
            release.url = "https://example.org"


@pytest.mark.parametrize("release", releases_of(), ids=lambda release: f"{release.upsampler}-{release.name}")
def test_the_configuration_of_a_release_makes_a_network_for_its_features(release):
    with torch.device("meta"):
        upsampler = naf.create(release.upsampler, weights=None, **release.config)
    assert upsampler.feature_channels == release.channels


def test_the_naf_release_is_the_published_one():
    record = official()
    assert record.url == "https://github.com/valeoai/NAF/releases/download/model/naf_release.pth"
    assert record.size == 2_664_431
    assert record.sha256 == "c096c1ab2217a5c3ac136365f721685e2201379cb69d509cfb0261183847c98f"


def test_a_release_is_found_by_the_part_before_the_dot_where_that_is_unique():
    assert find_release("jafar", "vit_small_patch14_dinov2").name == "vit_small_patch14_dinov2.lvd142m"
    assert find_release("jafar", "vit_base_patch16_224").name == "vit_base_patch16_224"
    assert find_release("jafar", "vit_base_patch16_224.dino").name == "vit_base_patch16_224.dino"
    assert find_release("jafar", "vit_huge") is None


@pytest.fixture
def jafar(server, monkeypatch):
    """A release of a JAFAR for 16 channels, of which no hash is published, as its training script writes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        trained = naf.create("jafar", weights=None, v_dim=16, qk_dim=16)
    server.content = as_bytes({"jafar": trained.state_dict(), "optimizer_jafar": {"state": {}}, "epoch": 1})
    record = dataclasses.replace(
        find_release("jafar", "vit_small_patch14_dinov2"),
        url=server.url,
        channels=16,
        config={"v_dim": 16, "qk_dim": 16},
    )
    other = dataclasses.replace(record, name="vit_base", channels=32, file="other.pth")
    monkeypatch.setattr(releases, "RELEASES", (record, other))
    return trained


def test_a_release_is_chosen_by_name_and_brings_its_configuration(jafar, server, hub):
    upsampler = naf.create("jafar", weights="official:vit_small_patch14_dinov2")
    assert upsampler.feature_channels == 16
    assert same(upsampler.state_dict(), jafar.state_dict())
    assert upsampler.weights_source == "official release vit_small_patch14_dinov2.lvd142m"


def test_one_of_several_releases_must_be_named(jafar, hub):
    with pytest.raises(
        WeightsError, match=r"one release for each backbone.*official:vit_small_patch14.*official:vit_b"
    ):
        naf.create("jafar", weights="official")
    with pytest.raises(WeightsError, match=r"'jafar' has no release 'vit_large', only official:vit_small_patch14"):
        naf.create("jafar", weights="official:vit_large")
    with pytest.raises(WeightsError, match=r"'bilinear' has no official weights \(only jafar\)"):
        naf.create("bilinear", weights="official:any")


def test_a_configuration_that_contradicts_the_release_is_refused_before_any_download(jafar, server, hub):
    with pytest.raises(ValueError, match=r"v_dim is 768, but the release 'vit_small_.*' needs 16"):
        naf.create("jafar", weights="official:vit_small_patch14_dinov2", v_dim=768)
    assert server.requests == 0


@pytest.mark.parametrize("name", ["naf", "jafar", "lift"])
def test_the_prefix_of_parallel_training_is_dropped_for_every_method(name):
    trained = small(name)
    state = {f"module.{key}": tensor for key, tensor in trained.state_dict().items()}
    assert same(naf.create(name, weights=state, **config_of(name)).state_dict(), trained.state_dict())


def test_features_of_another_width_are_told_which_releases_there_are(jafar, hub):
    upsampler = naf.create("jafar", weights="official:vit_small_patch14_dinov2")
    with pytest.raises(ValueError, match=r"have 32 channels, expected 16 by this jafar.*official:vit_base \(32\)"):
        upsampler(randn(1, 3, 8, 8), randn(1, 32, 2, 2), (8, 8))


def test_where_no_hash_is_published_that_of_the_first_download_counts(jafar, server, hub, caplog):
    with caplog.at_level(logging.WARNING, logger="naf"):
        naf.create("jafar", weights="official:vit_small_patch14_dinov2")
    path = releases_of("jafar")[0].path
    note = path.with_name(f"{path.name}.sha256")
    assert note.read_text().strip() == hashlib.sha256(server.content).hexdigest()
    assert note.read_text().strip() in caplog.text
    naf.create("jafar", weights="official:vit_small_patch14_dinov2")
    assert len(caplog.records) == 1
    changed = {"jafar": {key: -value for key, value in jafar.state_dict().items()}}
    path.write_bytes(as_bytes(changed))
    with pytest.raises(WeightsError, match=r"refused.*at its first use"):
        naf.create("jafar", weights="official:vit_small_patch14_dinov2")
    path.unlink()
    server.content = as_bytes(changed)
    with pytest.raises(WeightsError, match=r"refused.*at its first use"):
        naf.create("jafar", weights="official:vit_small_patch14_dinov2")


def test_a_release_behind_a_page_says_where_to_put_the_file(hub):
    release = releases_of("lift")[0]
    with pytest.raises(WeightsError, match=f"by a program.*{re.escape(release.url)}.*{re.escape(str(release.path))}"):
        naf.create("lift", weights=f"official:{release.name}")


@pytest.fixture
def foreign_package(request, monkeypatch):
    """Gives a class of a package that a training script has and a user has not; and takes it away."""
    modules = {name: types.ModuleType(name) for name in ("omegaconf", "omegaconf.dictconfig")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)

    class DictConfig(dict):
        def __reduce__(self):
            # Plain types and a defaultdict are among what the real one writes.
            return DictConfig, (int, dict), {"_content": {"lr": 1e-3}, "_resolver_cache": defaultdict(dict)}

    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf.dictconfig", "DictConfig"
    modules["omegaconf.dictconfig"].DictConfig = DictConfig
    yield DictConfig
    for name in modules:
        monkeypatch.delitem(sys.modules, name)


def test_settings_of_a_training_script_beside_the_weights_are_passed_over(foreign_package, tmp_path, monkeypatch):
    trained, path = small("jafar"), tmp_path / "last.pth"
    torch.save({"jafar": trained.state_dict(), "epoch": 3, "cfg": foreign_package()}, path)
    for name in ("omegaconf", "omegaconf.dictconfig"):
        monkeypatch.setitem(sys.modules, name, None)  # not to be had
    restored = naf.create("jafar", weights=path, **config_of("jafar"))
    assert same(restored.state_dict(), trained.state_dict())


@odd_protocol
def test_settings_beside_the_weights_open_no_door_for_others(foreign_package, tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "last.pth"
    torch.save({"jafar": small("jafar").state_dict(), "cfg": foreign_package(), "more": Intruder(trace)}, path)
    with pytest.raises(WeightsError, match="refused"):
        naf.create("jafar", weights=path, **config_of("jafar"))
    assert not trace.exists()


# "auto", "embedded", None -------------------------------------------------------------------------------------------


def test_auto_takes_the_weights_that_the_package_carries(tmp_path, monkeypatch, caplog):
    trained, path = fresh(1), tmp_path / "naf.safetensors"
    save_file(trained.state_dict(), path)
    monkeypatch.setattr(weights, "embedded_path", lambda name: path if name == "naf" else None)
    for source in ("auto", "embedded"):
        upsampler = naf.create("naf", weights=source, **CONFIG)
        assert same(upsampler.state_dict(), trained.state_dict())
        assert upsampler.weights_source == "embedded"
    assert not caplog.records


@pytest.mark.parametrize("carries", [False, True], ids=["none", "of_another_configuration"])
def test_auto_otherwise_warns_and_gives_the_same_untrained_network(tmp_path, monkeypatch, caplog, hub, carries):
    path = tmp_path / "naf.safetensors"
    save_file(fresh(1, dim=32).state_dict(), path)
    monkeypatch.setattr(weights, "embedded_path", lambda name: path if carries else None)
    networks = []
    for _ in range(2):
        torch.rand(1)  # another state at each call
        before = torch.get_rng_state()
        with caplog.at_level(logging.WARNING, logger="naf"):
            networks.append(naf.create("naf", **CONFIG))
        assert torch.equal(torch.get_rng_state(), before)
    assert same(networks[0].state_dict(), networks[1].state_dict())
    assert "untrained" in networks[0].weights_source
    assert len(caplog.records) == 2
    assert all("naf is untrained" in record.getMessage() for record in caplog.records)
    assert files_in(hub) == []  # never downloads


def test_embedded_weights_that_do_not_exist_or_fit_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "embedded_path", lambda name: None)
    with pytest.raises(WeightsError, match="carries no weights for 'naf'"):
        naf.create("naf", weights="embedded", **CONFIG)
    path = tmp_path / "naf.safetensors"
    save_file(fresh(1, dim=32).state_dict(), path)
    monkeypatch.setattr(weights, "embedded_path", lambda name: path)
    with pytest.raises(WeightsError, match="wrong shape"):
        naf.create("naf", weights="embedded", **CONFIG)


@pytest.mark.parametrize("name", ["naf", "naf+"])
def test_the_package_carries_weights_of_the_default_network(caplog, name):
    upsampler = naf.create(name)
    assert upsampler.weights_source == "embedded"
    assert not caplog.records
    own, plain = upsampler.config, naf.create(name, weights=None).config
    assert {key for key in own if own[key] != plain[key]} <= set(upsampler.calling_options)
    assert all(tensor.isfinite().all() for tensor in upsampler.state_dict().values())
    inputs = randn(1, 3, 32, 32), randn(1, 8, 4, 4), (32, 32)
    with torch.no_grad():
        assert not torch.allclose(upsampler(*inputs), naf.create(name, weights=None)(*inputs), atol=1e-3)


@pytest.mark.parametrize("name", ["naf", "naf+"])
def test_the_packages_files_are_small_and_say_how_they_were_made(name):
    record, path = naf.create(name, weights="embedded").record, weights.embedded_path(name)
    assert path.stat().st_size < 3_000_000
    assert record.upsampler == name
    assert record.about["command"].startswith("naf train")
    assert record.card == path.with_suffix(".md")
    card = record.card.read_text()
    assert all(record.about[key] in card for key in ("command", "commit", "steps", "licence"))


def test_none_draws_fresh_weights_from_the_global_generator(caplog):
    with torch.random.fork_rng(devices=[]):
        networks = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            networks.append(naf.create("naf", weights=None, **CONFIG).state_dict())
    assert same(networks[0], networks[1])
    assert not same(networks[0], networks[2])
    assert not caplog.records


def test_a_method_without_parameters_needs_no_weights(caplog):
    for source in ("auto", None):
        assert naf.create("bilinear", weights=source).weights_source == "none needed"
    assert not caplog.records


@pytest.mark.parametrize("source", ["nowhere.pth", {"a": torch.zeros(1)}], ids=["path", "state_dict"])
def test_weights_for_a_method_without_parameters_are_not_ignored_in_silence(source):
    with pytest.raises(WeightsError):
        naf.create("bilinear", weights=source)


@pytest.mark.parametrize("source", [3, True, 0.5])
def test_weights_of_another_type_are_refused(source):
    with pytest.raises(WeightsError, match=f"weights are a {type(source).__name__}, expected a path"):
        naf.create("naf", weights=source, dim=16)
