"""The web application's work, without the web."""

import threading
from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import naf
from naf.app.analysis import part, parts
from naf.app.workbench import (
    BackboneResult,
    Cancelled,
    MethodResult,
    PhotoError,
    Settings,
    Workbench,
    WorkbenchError,
)
from naf.backbones import create as create_backbone
from naf.data.image import read_image
from naf.data.samples import SAMPLES
from naf.ops.neighborhood import make_neighborhood
from naf.upsamplers.extractor import resize_image
from naf.upsamplers.naf import NAF
from naf.visualization.attention import attention_image, attention_map
from naf.visualization.heat import heat_image, heat_range, mark
from naf.visualization.pca import PCAColors, to_image
from naf.visualization.segments import Segments
from naf.visualization.view import FeatureView

CPU = torch.device("cpu")
SETTINGS = Settings("embedded", output_side=64, backbone_side=128)
SIZE = (53, 64)  # of the photo at this output side
PIXEL = (25, 40)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A part of a photo, 160 x 192."""
    path = tmp_path_factory.mktemp("photo") / "cat's eye.png"
    with Image.open(SAMPLES[1].path) as photo:
        photo.crop((110, 50, 302, 210)).save(path)
    return path


@pytest.fixture(scope="module")
def bench():
    return Workbench(device=CPU)


@pytest.fixture(scope="module")
def photo(bench, path):
    return bench.open(path)


@pytest.fixture(scope="module")
def direct(path):
    """The same with the library alone: image of the output size, coarse features."""
    whole = read_image(path)[None]
    coarse = create_backbone("embedded", max_side=128).extract(whole)
    return resize_image(whole, SIZE), coarse


def fresh(**options):
    return Workbench(device=CPU, **options)


def full_map(name, direct):
    image, coarse = direct
    with torch.no_grad():
        return naf.create(name)(naf.normalize(image), coarse.features, SIZE)


def same(left, right):
    """How far two pictures differ at most, of 255."""
    assert left.size == right.size
    return np.abs(np.asarray(left.convert("RGB"), dtype=int) - np.asarray(right.convert("RGB"), dtype=int)).max()


class Counter:
    """Counts the calls of a function that it stands for."""

    def __init__(self, monkeypatch, owner, name):
        self.calls, self.function = 0, getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **options: self(*args, **options))

    def __call__(self, *args, **options):
        self.calls += 1
        return self.function(*args, **options)


# Answers ------------------------------------------------------------------------------------------------------------


def test_the_coarse_analysis_is_what_the_backbone_gives(bench, photo, direct):
    found = bench.coarse(photo, SETTINGS)
    image, coarse = direct
    torch.testing.assert_close(found.features.features, coarse.features)
    assert (found.name, found.channels, found.grid) == ("embedded", 384, coarse.grid)
    assert (found.input_size, found.output_size) == (coarse.input_size, SIZE)
    assert same(found.cells, PCAColors.fit(coarse.features).image(coarse.features)) == 0
    assert same(found.picture, found.cells.resize((64, 53), Image.Resampling.NEAREST)) == 0
    assert same(found.photo, to_image(image[0])) <= 1
    assert found.view.size == found.grid


@pytest.mark.parametrize("name", ["naf", "naf+", "bilinear", "guided", "anyup", "large-image"])
def test_the_sharp_picture_has_the_coarse_colours(bench, photo, direct, path, name):
    image, coarse = direct
    config, guide = {}, image
    if name == "large-image":  # the photo itself, up to twice backbone_side
        config, guide = {"backbone": create_backbone("embedded", max_side=256)}, read_image(path)[None]
    with torch.no_grad():
        expected = naf.create(name, **config)(naf.normalize(guide), coarse.features, SIZE)
    found = bench.sharp(photo, SETTINGS, name)
    assert same(found.picture, PCAColors.fit(coarse.features).image(expected)) <= 1
    assert found.output_size == SIZE
    assert found.guide_size == tuple(guide.shape[2:])
    torch.testing.assert_close(found.view.norms(), expected[0].norm(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.view.vector(*PIXEL), expected[0, :, PIXEL[0], PIXEL[1]], rtol=1e-4, atol=1e-4)


def test_a_method_says_what_it_is_and_what_it_took(bench, photo):
    found = bench.sharp(photo, SETTINGS, "naf")
    assert (found.title, found.is_untrained, found.heads, found.kernel_size) == ("naf", False, 4, 9)
    assert (found.weights, found.licence.casefold()) == ("embedded", "apache-2.0")
    assert found.seconds > 0
    assert found.mib > 0
    assert "MiB" in found.figures
    random = bench.sharp(photo, SETTINGS, "anyup")
    assert (random.title, random.is_untrained, random.heads) == ("anyup (untrained)", True, 1)
    assert "256 pixels" in bench.sharp(photo, SETTINGS, "large-image").note
    assert {each.name for each in fields(MethodResult)} <= vars(found.result).keys()
    assert type(found.result) is MethodResult


@pytest.mark.parametrize(("name", "cache_bytes"), [("naf+", 2 << 30), ("naf+", 20 << 20), ("anyup", 20 << 20)])
def test_similarity_is_the_cosine_of_the_full_map(photo, direct, name, cache_bytes):
    bench = fresh(cache_bytes=cache_bytes)
    assert (bench.sharp(photo, SETTINGS, name).features is None) == (name == "naf+" and cache_bytes < 2 << 30)
    features = full_map(name, direct)[0]
    row, col = PIXEL
    after = torch.cosine_similarity(features, features[:, row, col][:, None, None], dim=0)
    coarse = direct[1].features[0]
    cell = row * coarse.shape[1] // SIZE[0], col * coarse.shape[2] // SIZE[1]
    before = torch.cosine_similarity(coarse, coarse[:, cell[0], cell[1]][:, None, None], dim=0)
    low, high = heat_range(before, after)
    found = bench.similarity(photo, SETTINGS, name, row, col)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    assert (found.row, found.col, found.cell) == (row, col, cell)
    assert same(found.sharp, mark(heat_image(after, low, high), row, col, SIZE)) <= 2
    large = heat_image(before, low, high).resize((SIZE[1], SIZE[0]), Image.Resampling.NEAREST)
    assert same(found.coarse, mark(large, row, col, SIZE)) <= 2


@pytest.mark.parametrize(("kernel_size", "head"), [(None, None), (None, 2), (5, None), (13, 0)])
def test_attention_shows_the_weights_of_the_guidance(bench, photo, direct, kernel_size, head):
    image, coarse = direct
    with torch.no_grad():
        upsampler = naf.create("naf", kernel_size=kernel_size or 9)
        expected = upsampler.encode(naf.normalize(image), SIZE, coarse.grid).attention(*PIXEL)
    found = bench.attention(photo, SETTINGS, "naf", *PIXEL, kernel_size=kernel_size, head=head)
    torch.testing.assert_close(found.weights.weights, expected.weights, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.weights.rows, expected.rows)
    assert found.kernel_size == tuple(expected.weights.shape[2:])
    assert found.heads == 4
    for picture, zoom in ((found.picture, False), (found.zoomed, True)):
        assert same(picture, attention_image(image[0], expected, coarse.grid, PIXEL, SIZE, head=head, zoom=zoom)) <= 2
    share, _ = attention_map(expected, coarse.grid, head=head)
    assert f"{100 * share.max().item():.0f} % of the weight" in found.caption
    assert ("head 3 of 4" in found.caption) == (head == 2)


def test_attention_of_methods_whose_weights_come_from_the_features(bench, photo, direct):
    found = bench.attention(photo, SETTINGS, "anyup", *PIXEL)
    with torch.no_grad():
        image, coarse = direct
        guidance = naf.create("anyup").encode(naf.normalize(image), SIZE, coarse.grid)
        expected = guidance.attention(*PIXEL, coarse.features)
    torch.testing.assert_close(found.weights.weights, expected.weights, rtol=1e-4, atol=1e-6)


def test_segments_are_those_of_the_full_map(bench, photo, direct):
    found = bench.segments(photo, SETTINGS, "naf+", 4)
    clusters = Segments.fit(direct[1].features, 4)
    sharp = clusters.image(clusters.labels(FeatureView.of_map(full_map("naf+", direct))))
    coarse = clusters.image(clusters.labels(FeatureView.of_map(direct[1].features)))
    assert found.k == 4
    assert (np.asarray(found.sharp) != np.asarray(sharp)).any(-1).mean() < 1e-3  # ties may fall either way
    assert same(found.coarse, coarse.resize((SIZE[1], SIZE[0]), Image.Resampling.NEAREST)) == 0


def test_methods_are_compared_side_by_side(bench, photo):
    found = bench.compare(photo, SETTINGS, ["naf+", "bilinear", "naf+"])
    assert [each.upsampler for each in found.methods] == ["naf+", "bilinear"]
    assert [panel.title for panel in found.panels] == ["photo", "coarse features", "naf+", "bilinear"]
    assert "MiB" in found.panels[2].caption
    assert found.failures == ()
    assert found.sheet.width > found.sheet.height / 4


def test_a_method_that_fails_does_not_stop_the_others(bench, photo):
    found = bench.compare(photo, SETTINGS, ["nonsense", "bilinear", "featup-implicit"])
    assert [each.upsampler for each in found.methods] == ["bilinear"]
    assert [line.partition(";")[0] for line in found.failures] == [
        "nonsense: there is no such upsampler",
        "featup-implicit: it must be fitted to each photo",
    ]
    with pytest.raises(WorkbenchError, match=r"^nonsense: there is no such"):
        bench.compare(photo, SETTINGS, ["nonsense"])


def test_features_that_a_method_cannot_take_are_told(path, monkeypatch):
    monkeypatch.setattr(naf.backbones.EmbeddedBackbone, "_features", lambda self, x: torch.rand(1, 6, 8, 8))
    bench = fresh()
    said = error_of(bench.sharp, bench.open(path), SETTINGS, "naf")
    assert said.startswith("naf: features have 6 channels, which heads_attn=4 does not divide")


@pytest.mark.parametrize("name", naf.list_upsamplers())
def test_every_listed_method_runs_and_is_labelled_where_untrained(photo, name):
    bench, settings = every(), Settings("embedded", output_side=32, backbone_side=64)
    if name == "featup-implicit":
        assert name not in bench.upsamplers
        with pytest.raises(WorkbenchError, match="it must be fitted to each photo"):
            bench.sharp(photo, settings, name)
        return
    assert name in bench.upsamplers
    found = bench.sharp(photo, settings, name)
    assert found.picture.size == (32, 27)
    assert found.is_untrained == bench.is_untrained(name) == found.title.endswith(" (untrained)")


def every(kept=[]):  # noqa: B006 (one workbench for all parameters)
    kept.append(kept[0] if kept else fresh())
    return kept[0]


def test_methods_with_learned_weights_come_first(bench):
    assert bench.upsamplers[:2] == ["naf", "naf+"]
    assert [bench.is_untrained(name) for name in bench.upsamplers] == sorted(map(bench.is_untrained, bench.upsamplers))


def test_weights_are_chosen_for_the_server(tmp_path, photo):
    path = tmp_path / "own.safetensors"
    naf.create("naf+").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(path)
    bench = fresh(weights=f"naf+={path},naf=none")
    assert not bench.is_untrained("naf+")
    assert bench.is_untrained("naf")
    assert bench.sharp(photo, SETTINGS, "naf+").weights == str(path)
    with pytest.raises(ValueError, match="expected one source, or NAME=SOURCE"):
        fresh(weights="a,b")
    with pytest.raises(WorkbenchError, match=r"^naf\+: checkpoint gone.pth: no such file"):
        fresh(weights="naf+=gone.pth").sharp(photo, SETTINGS, "naf+")


# What is kept -------------------------------------------------------------------------------------------------------


def test_nothing_is_computed_twice(path, monkeypatch):
    bench = fresh()
    photo = bench.open(path)
    encode, seen = Counter(monkeypatch, NAF, "encode"), Counter(monkeypatch, naf.backbones.Backbone, "extract")
    for _ in range(2):
        bench.sharp(photo, SETTINGS, "naf")
        bench.similarity(photo, SETTINGS, "naf", *PIXEL)
        bench.attention(photo, SETTINGS, "naf", *PIXEL, kernel_size=5)
        bench.segments(photo, SETTINGS, "naf", 3)
        bench.compare(photo, SETTINGS, ["naf"])
    assert (encode.calls, seen.calls) == (1, 1)
    bench.sharp(photo, Settings("embedded", output_side=48, backbone_side=128), "naf")
    assert (encode.calls, seen.calls) == (2, 1)  # features do not depend on the output size
    bench.sharp(bench.open(path, "other.png"), SETTINGS, "naf")
    assert encode.calls == 2  # the same photo by another name


def test_backbones_of_one_grid_share_the_guidance(path, monkeypatch):
    bench = fresh()
    photo = bench.open(path)
    encode = Counter(monkeypatch, NAF, "encode")
    first = bench.sharp(photo, SETTINGS, "naf+")
    second = bench.sharp(photo, Settings("hog", output_side=64, backbone_side=128), "naf+")
    assert encode.calls == 1
    assert second.guidance is first.guidance
    assert second.picture != first.picture


def test_the_bound_on_memory_is_kept_and_what_went_is_made_again(path):
    bench = fresh(cache_bytes=5 << 20)
    photo = bench.open(path)
    small = Settings("embedded", output_side=64, backbone_side=128)
    pictures = {name: bench.sharp(photo, small, name).picture for name in ("naf", "naf+", "bilinear", "guided")}
    assert bench.cache.nbytes <= 5 << 20
    assert len([key for key in bench.cache.kept() if key[0] == "sharp"]) < 4
    for name, picture in pictures.items():
        assert same(bench.sharp(photo, small, name).picture, picture) == 0
        assert bench.cache.nbytes <= 5 << 20
    nothing = fresh(cache_bytes=0)
    assert same(nothing.sharp(nothing.open(path), small, "naf").picture, pictures["naf"]) == 0
    assert nothing.cache.kept() == []


@pytest.mark.parametrize("cache_bytes", [2 << 30, 20 << 20])
def test_what_is_counted_is_what_is_held(path, cache_bytes):
    bench = fresh(cache_bytes=cache_bytes)
    photo = bench.open(path)
    before = bench.cache.nbytes
    sharp = bench.sharp(photo, SETTINGS, "naf+")
    pixels = SIZE[0] * SIZE[1]
    held = 4 * 256 * pixels + (4 * 384 * pixels if sharp.features is not None else 0)
    assert (sharp.features is None) == (cache_bytes < 2 << 30)
    assert held < bench.cache.nbytes - before < 1.4 * held


def test_a_thread_that_asks_for_the_same_waits_and_computes_nothing(path, monkeypatch):
    bench = fresh()
    photo = bench.open(path)
    begun, go, waits, found = threading.Event(), threading.Event(), threading.Event(), {}
    encode = Counter(monkeypatch, NAF, "encode")

    def slow(share, step):
        if "encoding" in step:
            begun.set()
            assert go.wait(30)

    def told(share, step):
        if "waiting" in step:
            waits.set()

    first = threading.Thread(target=lambda: found.update(a=bench.sharp(photo, SETTINGS, "naf", slow)))
    second = threading.Thread(target=lambda: found.update(b=bench.sharp(photo, SETTINGS, "naf", told)))
    first.start()
    assert begun.wait(30)
    second.start()
    assert waits.wait(30)
    go.set()
    first.join()
    second.join()
    assert found["a"] is found["b"]
    assert encode.calls == 1


def test_whoever_waits_can_leave(path):
    bench = fresh()
    photo = bench.open(path)
    begun, go = threading.Event(), threading.Event()

    def slow(share, step):
        begun.set()
        assert go.wait(30)

    def leave(share, step):
        raise Cancelled

    first = threading.Thread(target=lambda: bench.sharp(photo, SETTINGS, "naf", slow))
    first.start()
    assert begun.wait(30)
    with pytest.raises(Cancelled):
        bench.sharp(photo, SETTINGS, "naf", leave)
    go.set()
    first.join()
    assert bench.sharp(photo, SETTINGS, "naf", leave_if_asked_to_compute).picture


def leave_if_asked_to_compute(share, step):
    assert share == 1.0, step


def test_whatever_step_is_cancelled_what_is_kept_is_whole(path, bench, photo):
    steps = []
    whole = fresh()
    opened = whole.open(path)
    whole.compare(opened, SETTINGS, ["naf", "bilinear"], lambda share, step: steps.append(step))
    assert len(steps) > 6
    broken = fresh()
    for stop in dict.fromkeys(steps):

        def cancel(share, step, stop=stop):
            if step == stop:
                raise Cancelled

        with pytest.raises(Cancelled):
            broken.compare(opened, SETTINGS, ["naf", "bilinear"], cancel)
    expected = [bench.sharp(photo, SETTINGS, name).picture for name in ("naf", "bilinear")]
    found = broken.compare(opened, SETTINGS, ["naf", "bilinear"])
    assert [same(each.picture, picture) for each, picture in zip(found.methods, expected, strict=True)] == [0, 0]
    assert sorted(map(str, broken.cache.kept())) == sorted(map(str, whole.cache.kept()))


def test_progress_rises_and_ends(path):
    bench = fresh()
    shares = []
    bench.compare(bench.open(path), SETTINGS, ["naf+", "bilinear"], lambda share, _: shares.append(share))
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert shares[-1] == pytest.approx(1.0)


def test_parts_of_the_work_follow_each_other():
    shares = []
    for told in parts(lambda share, _: shares.append(share), 0.5, 1.0, 2):
        part(told, 0.0, 0.5)(1.0, "")
        told(1.0, "")
    assert shares == pytest.approx([0.625, 0.75, 0.875, 1.0])


def test_backbones_that_are_no_longer_asked_for_go(path):
    bench = fresh()
    photo = bench.open(path)
    for name in ("embedded", "hog"):
        bench.coarse(photo, Settings(name, output_side=32, backbone_side=64))
    networks = bench._maker.networks
    first = networks.backbone("embedded", 64)
    assert networks.backbone("embedded", 32) is first
    assert first.max_side == 32


# Errors -------------------------------------------------------------------------------------------------------------


def error_of(call, *args, **options):
    with pytest.raises(ValueError, match=r"\S") as caught:
        call(*args, **options)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("resnet5000", "backbone 'resnet5000' is unknown to timm"),
        ("hub:facebookresearch/dinov2:dinov2_vits14", "runs code of a repository: only who starts the application"),
        ("hub:/etc:passwd", "runs code of a repository"),
        ("hf:/etc", "is no name that can be asked for here"),
        ("hf:~nobody/model", "is no name that can be asked for here"),
        ("hf:~", "is no name that can be asked for here"),
        ("hf:../..", "is no name that can be asked for here"),
        ("local-dir:/etc", "is no name that can be asked for here"),
        ("hf-hub:a/b", "is no name that can be asked for here"),
        ("", "is unknown to timm"),
    ],
)
def test_backbones_that_cannot_be_had_or_asked_for(bench, photo, backbone, expected):
    said = error_of(bench.coarse, photo, Settings(backbone, 96, 128))
    assert said.startswith("backbone ")
    assert expected in said


def test_weights_that_the_hub_does_not_give_are_told_at_once(bench, photo, monkeypatch):
    monkeypatch.setattr("naf.app.networks.is_available", lambda name: False)
    monkeypatch.setattr("naf.app.networks.load_backbone", lambda *_: pytest.fail("tried"))
    said = error_of(bench.coarse, photo, Settings("resnet18.a1_in1k", 64, 128))
    assert said.startswith("backbone 'resnet18.a1_in1k': its weights are not in the local cache and the hub does not")


def test_repositories_that_the_hub_does_not_give_are_told_at_once(bench, photo, monkeypatch):
    asked = []

    def is_within_reach(repository, *, files, revision):
        asked.append((repository, revision))
        return False

    monkeypatch.setattr("naf.app.networks.is_within_reach", is_within_reach)
    monkeypatch.setattr("naf.app.networks.load_backbone", lambda *_: pytest.fail("tried"))
    for name in ("hf:user/model", "hf:user/model@v2"):
        assert "not in the local cache" in error_of(bench.coarse, photo, Settings(name, 64, 128))
    assert asked == [("user/model", "main"), ("user/model", "v2")]


def test_a_folder_that_looks_like_a_repository_is_not_read(bench, photo, tmp_path, monkeypatch):
    (tmp_path / "user" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "no name that can be asked for" in error_of(bench.coarse, photo, Settings("hf:user/model", 96, 128))


def test_the_servers_own_backbone_may_be_of_any_kind(path, tmp_path):
    (tmp_path / "hubconf.py").write_text(
        "import torch\n\n\ndef tiny():\n    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, stride=4))\n"
    )
    name = f"hub:{tmp_path}:tiny"
    with pytest.raises(WorkbenchError, match="only who starts"):
        fresh().coarse(fresh().open(path), Settings(name, 96, 128))
    bench = fresh(backbone=name)
    assert bench.defaults == Settings(name)
    said = error_of(bench.coarse, bench.open(path), Settings(name, 96, 128))
    assert "only who starts" not in said  # its normalisation is not known: so far it was asked
    assert said.startswith("backbone ")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings("embedded", 4), "output_side is 4, expected an integer from 16 to 4096"),
        (Settings("embedded", 448.5), "output_side is 448.5, expected an integer"),
        (Settings("embedded", 96, 2), "backbone_side is 2, expected an integer from 16 to 4096"),
    ],
)
def test_sizes_out_of_range(bench, photo, settings, expected):
    assert expected in error_of(bench.coarse, photo, settings)


@pytest.mark.parametrize(("row", "col"), [(53, 0), (-1, 0), (0, 64), (0.5, 3)])
def test_positions_outside(bench, photo, row, col):
    for question in (bench.similarity, bench.attention):
        said = error_of(question, photo, SETTINGS, "bilinear", row, col)
        assert "expected an integer from 0 to " in said


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("large-image", {}, "large-image: this method has no attention weights to show"),
        ("bilinear", {"kernel_size": 5}, "bilinear: this method has no kernel size to choose"),
        ("naf", {"kernel_size": 4}, "naf: kernel_size is 4, expected an odd number"),
        ("naf", {"kernel_size": 99}, "naf: kernel_size is 99, expected an integer from 1 to 31"),
        ("naf", {"head": 4}, "naf: head is 4, expected an integer from 0 to 3"),
        ("naf+", {"head": 1}, "naf+: head is 1, expected an integer from 0 to 0"),
    ],
)
def test_attention_that_there_is_not(bench, photo, name, options, expected):
    assert error_of(bench.attention, photo, SETTINGS, name, *PIXEL, **options).startswith(expected)


def test_other_numbers_of_segments_and_methods(bench, photo):
    assert "k is 1, expected an integer from 2 to 20" in error_of(bench.segments, photo, SETTINGS, "naf", 1)
    tiny = Settings("embedded", output_side=32, backbone_side=32)
    assert "expected at most" in error_of(bench.segments, photo, tiny, "bilinear", 20)
    assert "0 upsamplers are chosen, expected 1 to 4" in error_of(bench.compare, photo, SETTINGS, [])
    assert "5 upsamplers" in error_of(bench.compare, photo, SETTINGS, ["naf", "naf+", "jbf", "bilinear", "nearest"])


def test_an_output_that_memory_cannot_hold(path, monkeypatch):
    bench = fresh()
    photo = bench.open(path)
    monkeypatch.setattr("naf.pipeline.available_mib", lambda: 10.0)
    said = error_of(bench.sharp, photo, Settings("embedded", 512, 128), "naf")
    assert said.startswith("naf: an output of 427x512 needs 0.3 GiB, 0.0 GiB are free: choose a smaller output size")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried\nmore"), "memory is too small"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory is too small: choose a smaller output size"),
        (RuntimeError("one line\nand another"), "one line"),
        (MemoryError(), "memory is too small"),
        (TypeError(), "TypeError"),
    ],
)
def test_whatever_a_network_raises_is_one_line(path, monkeypatch, error, expected):
    bench = fresh()
    photo = bench.open(path)

    def fail(*_):
        raise error

    monkeypatch.setattr(NAF, "encode", fail)
    assert error_of(bench.sharp, photo, SETTINGS, "naf").startswith(f"naf: {expected}")


def test_an_output_smaller_than_the_grid_is_told(bench):
    said = error_of(bench.sharp, bench.open(SAMPLES[0].path), Settings("embedded", 16, 512), "naf")
    assert said.startswith("naf: output_size (16, 16) is smaller than the feature grid (32, 32)")


def test_photos_have_limits(path, tmp_path):
    with pytest.raises(PhotoError, match=r"^cat's eye\.png: 192 x 160 are 0\.03072 million pixels, expected at most"):
        fresh(max_pixels=20_000).open(path)
    with pytest.raises(PhotoError, match="expected at most 0"):
        fresh(max_bytes=1000).open(path)
    with pytest.raises(PhotoError, match=r"^none\.png: no such file$"):
        fresh().open(tmp_path / "none.png")


def test_a_photo_that_changes_or_goes_is_told(tmp_path, path):
    bench = fresh(cache_bytes=0)
    copy = tmp_path / "copy.png"
    copy.write_bytes(path.read_bytes())
    photo = bench.open(copy, "my photo.png")
    Image.new("RGB", (50, 50)).save(copy)
    assert error_of(bench.coarse, photo, SETTINGS) == "my photo.png: the file has changed: open it again"
    copy.unlink()
    assert error_of(bench.coarse, photo, SETTINGS) == "my photo.png: no such file"
    with pytest.raises(PhotoError):
        bench.compare(photo, SETTINGS, ["naf", "bilinear"])


def test_names_of_photos_are_shown_on_one_line(path):
    photo = fresh().open(path, "C:\\secret\\../folder/a\nb\x1b.png")
    assert photo.name == "a_b_.png"
    assert len(fresh().open(path, "x" * 300 + ".png").name) <= 80


# Files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cache_bytes"), [("naf+", 2 << 30), ("naf+", 20 << 20), ("anyup", 20 << 20)])
def test_features_are_saved_in_half_precision_with_where_they_come_from(photo, direct, tmp_path, name, cache_bytes):
    bench = fresh(cache_bytes=cache_bytes)
    path = bench.save_features(photo, SETTINGS, name, tmp_path / "new folder")
    assert path == tmp_path / "new folder" / f"cat-s-eye_embedded_{name}_53x64.safetensors"
    features = load_file(path)["features"]
    assert features.dtype == torch.float16
    torch.testing.assert_close(features.float(), full_map(name, direct)[0], rtol=2e-3, atol=2e-3)
    with safe_open(path, "pt") as file:
        about = file.metadata()
    assert about["photo"] == "cat's eye.png"
    assert (about["backbone"], about["upsampler"]) == ("embedded", name)
    assert (about["image_size"], about["guide_size"], about["grid"]) == ("160x192", "53x64", "7x8")
    assert "weights" in about
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # nothing half-written stays


def test_features_beyond_half_precision_are_refused(path, tmp_path, monkeypatch):
    bench = fresh()
    kind = type(naf.backbones.create("embedded"))
    original = kind._features
    monkeypatch.setattr(kind, "_features", lambda self, image: 1e6 * original(self, image))
    photo = bench.open(path)
    said = error_of(bench.save_features, photo, SETTINGS, "bilinear", tmp_path)
    assert said == "bilinear: the features hold values that float16 cannot hold"
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_saved(bench, photo, tmp_path):
    path = bench.save_png(photo, SETTINGS, "naf+", tmp_path)
    assert path.name == "cat-s-eye_embedded_naf+_53x64.png"
    with Image.open(path) as saved:
        assert same(saved, bench.sharp(photo, SETTINGS, "naf+").picture) == 0
    other = bench.save_picture(Image.new("RGB", (3, 3)), photo, "compare", tmp_path)
    assert other == tmp_path / "cat-s-eye_compare.png"


@pytest.mark.parametrize(
    "given", ["../../etc/passwd", ".hidden.png", "a/b\\c.png", "…", "naïve café.jpeg", "con\0.png"]
)
def test_no_name_of_a_photo_leads_out_of_the_folder(path, tmp_path, given):
    bench = fresh()
    photo = bench.open(path, given)
    saved = bench.save_picture(Image.new("RGB", (3, 3)), photo, "../x", tmp_path)
    assert saved.parent == tmp_path
    assert saved.name.isascii()
    assert not saved.name.startswith(".")
    assert set(saved.name).isdisjoint("/\\ \0")
    assert saved.is_file()


def test_a_folder_that_cannot_be_written_to(bench, photo, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        bench.save_png(photo, SETTINGS, "naf+", tmp_path / "file" / "folder")


def test_kernel_sizes_are_those_of_the_librarys_neighborhoods(bench, photo):
    sharp = bench.sharp(photo, SETTINGS, "naf+")
    neighborhood = make_neighborhood(bench.coarse(photo, SETTINGS).grid, SIZE, 5, sharp.rule)
    expected = sharp.guidance.with_neighborhood(neighborhood).attention(*PIXEL)
    found = bench.attention(photo, SETTINGS, "naf+", *PIXEL, kernel_size=5)
    torch.testing.assert_close(found.weights.weights, expected.weights)


def test_every_field_of_the_backbones_result_is_in_the_coarse_analysis(bench, photo):
    found = bench.coarse(photo, SETTINGS)
    assert {each.name for each in fields(BackboneResult)} <= vars(found).keys()
