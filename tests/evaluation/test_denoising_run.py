"""`naf eval denoise` on small photos."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from naf.evaluation import run_denoise
from naf.evaluation.denoisers import Denoiser
from naf.evaluation.record import read_record
from naf.restoration.dncnn import DnCNN
from tests.evaluation.tiny_photos import GREY, denoise, save_grey, save_scene, write_network, write_photos


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def evaluate(root, tmp_path):
    return lambda *changes, **more: denoise(root, *changes, folder=tmp_path / "out", **more)


@pytest.fixture
def seen(monkeypatch):
    """What restorers were given: name and noisy image."""
    calls, restore = [], Denoiser.__call__

    def spy(self, noisy, noise, level):
        calls.append((self.name, noisy.clone()))
        return restore(self, noisy, noise, level)

    monkeypatch.setattr(Denoiser, "__call__", spy)
    return calls


def clipped_error(sigma):
    """Mean of min(|x|, 1/2)² under N(0, sigma)."""
    reach = 0.5 / sigma
    density = math.exp(-(reach**2) / 2) / math.sqrt(2 * math.pi)
    inside = math.erf(reach / math.sqrt(2))
    return sigma**2 * (inside - 2 * reach * density + reach**2 * (1 - inside))


@pytest.mark.parametrize(
    ("noise", "level", "error"),
    [
        ("gaussian", 0.05, 0.05**2),  # nothing is clamped
        ("gaussian", 0.5, clipped_error(0.5)),
        ("salt_and_pepper", 0.1, 0.1 * (GREY**2 + (1 - GREY) ** 2) / 2),
        ("salt_and_pepper", 0.5, 0.5 * (GREY**2 + (1 - GREY) ** 2) / 2),
    ],
)
def test_the_noisy_image_itself_has_the_psnr_of_the_formula(tmp_path, noise, level, error):
    save_grey(tmp_path / "photos/grey.png", (128, 128))
    (record,), failures, _ = denoise(
        tmp_path / "photos", f"noise={noise}", f"noise.level={level}", folder=tmp_path / "out"
    )
    assert failures == 0
    assert record.metrics["psnr"] == pytest.approx(-10 * math.log10(error), abs=0.12)
    assert record.metrics["psnr_released"] == pytest.approx(record.metrics["psnr"])  # one image


def test_records_tell_everything(evaluate, tmp_path):
    path = write_network(tmp_path / "net.safetensors")
    (record,), failures, said = evaluate(restorer=f"dncnn={path}", note="for a test", limit=3, seed=5)
    assert failures == 0
    assert (record.task, record.protocol, record.dataset, record.images) == ("denoise", "paper", "folder", {"test": 3})
    assert (record.backbone, record.stride, record.channels) == ("", None, None)
    assert (record.upsampler, record.source, len(record.checkpoint)) == (f"dncnn={path}", str(path), 64)
    assert (record.seed, record.variant, record.deviations) == (5, "gaussian 0.1", {})
    assert record.settings == {
        "size": None,
        "crop": None,
        "batch_size": 1,
        "autocast": False,
        "noise": "gaussian",
        "level": 0.1,
    }
    assert record.metrics.keys() == {"psnr", "ssim", "psnr_released", "ssim_released"}
    images = record.details["images"]
    assert list(images) == ["0.png", "1.png", "2.png"]
    for key in ("psnr", "ssim"):
        assert np.mean([one[key] for one in images.values()]) == pytest.approx(record.metrics[key], abs=1e-3)
    assert record.metrics["ssim"] != record.metrics["ssim_released"]
    assert record.details["parameters"] == 223
    assert record.details["seconds_per_image"] > 0
    assert record.note == "for a test; 3 images taken of 4"
    assert f"gaussian 0.1, dncnn={path}, seed 5: psnr {record.metrics['psnr']:.2f}, ssim" in said
    (file,) = (tmp_path / "out").rglob("*.json")
    assert file.parent == tmp_path / "out/folder"
    assert read_record(file) == record
    assert not list((tmp_path / "out").rglob("*.jsonl"))


def test_every_restorer_gets_the_same_noise_in_any_order_and_company(evaluate, seen, tmp_path):
    evaluate(restorer=["noisy", "median"])
    first = [noisy for name, noisy in seen if name == "noisy"]
    assert len(first) == 4
    assert all(map(torch.equal, first, [noisy for name, noisy in seen if name == "median"]))
    assert len(seen) == 8
    seen.clear()
    evaluate("protocol=released", restorer=["median", "noisy"], limit=2)  # images 0 and 2, as a batch
    others = [noisy for name, noisy in seen if name == "noisy"]
    assert all(torch.equal(a, b) for a, b in zip(others, first[::2], strict=True))
    assert not torch.equal(first[0], first[1])
    seen.clear()
    evaluate(seed=1)
    assert not torch.equal(seen[0][1], first[0])


def test_levels_are_runs_and_a_range_draws_one_an_image(evaluate):
    records, failures, _ = evaluate("noise.level=0.1,0.3,[0.1,0.5]")
    assert failures == 0
    assert [record.variant for record in records] == ["gaussian 0.1", "gaussian 0.3", "gaussian from 0.1 to 0.5"]
    assert [record.settings["level"] for record in records] == [0.1, 0.3, [0.1, 0.5]]
    drawn = [[one["level"] for one in record.details["images"].values()] for record in records]
    assert drawn[:2] == [[0.1] * 4, [0.3] * 4]
    assert len(set(drawn[2])) == 4
    assert records[0].metrics["psnr"] > records[1].metrics["psnr"] + 5


def test_released_takes_batches_of_two_and_says_what_the_cpu_cannot(evaluate, root):
    (record,), *_ = evaluate("protocol=released", limit=3)
    (paper,), *_ = evaluate(limit=3)
    images = [one["psnr"] for one in record.details["images"].values()]
    assert images == [one["psnr"] for one in paper.details["images"].values()]
    errors = 10 ** (-np.array(images) / 10)
    batches = -10 * np.log10([errors[:2].mean(), errors[2]])
    assert record.metrics["psnr_released"] == pytest.approx(batches.mean(), abs=1e-3)
    assert record.metrics["psnr"] == pytest.approx(np.mean(images), abs=1e-3)
    assert record.deviations == {"autocast": False}
    assert "float32: autocast to float16 is for CUDA only" in record.note
    assert paper.deviations == {}
    assert "autocast" not in paper.note


def test_images_of_other_sizes_are_in_batches_of_their_own(tmp_path, monkeypatch):
    for index, size in enumerate([(32, 24), (32, 24), (32, 24), (24, 32), (24, 32)]):
        save_scene(tmp_path / f"photos/{index}.png", index, size)
    batches, measured = [], run_denoise._measured

    def spy(setup, batch, *rest):
        batches.append([example.name for example in batch])
        return measured(setup, batch, *rest)

    monkeypatch.setattr(run_denoise, "_measured", spy)
    denoise(tmp_path / "photos", "protocol=released", folder=tmp_path / "out")
    assert batches == [["0.png", "1.png"], ["2.png"], ["3.png", "4.png"]]


@pytest.mark.parametrize("protocol", ["paper", "released"])
def test_a_stopped_run_goes_on_where_it_was(evaluate, root, tmp_path, monkeypatch, seen, protocol):
    (whole,), *_ = denoise(root, f"protocol={protocol}", folder=tmp_path / "whole")
    seen.clear()
    measured = run_denoise._measured

    def stop(setup, batch, *rest):
        if batch[0].name == "2.png":
            raise KeyboardInterrupt
        return measured(setup, batch, *rest)

    monkeypatch.setattr(run_denoise, "_measured", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(f"protocol={protocol}")
    monkeypatch.setattr(run_denoise, "_measured", measured)
    (partial,) = (tmp_path / "out").rglob("*.jsonl")
    with partial.open("a") as file:
        file.write('{"images": ["2.p')  # as a crash leaves it
    assert len(seen) == 2
    (record,), failures, _ = evaluate(f"protocol={protocol}")
    assert failures == 0
    assert len(seen) == 4
    assert record.metrics == whole.metrics
    assert record.details["images"] == whole.details["images"]
    assert not partial.exists()


@pytest.mark.parametrize("content", ["nothing\n", '{"images": ["9.png"]}\n', "", "\x00\n"])
def test_what_is_no_beginning_of_the_run_is_begun_anew(evaluate, tmp_path, monkeypatch, seen, content):
    monkeypatch.setattr(run_denoise, "_measured", None)
    assert evaluate()[1] == 1
    (partial,) = (tmp_path / "out").rglob("*.jsonl")
    partial.write_text(content)
    monkeypatch.undo()
    (record,), *_ = evaluate()
    assert list(record.details["images"]) == ["0.png", "1.png", "2.png", "3.png"]


def test_what_is_there_is_not_computed_again(evaluate, seen, tmp_path):
    first, *_ = evaluate(restorer=["noisy", "median"])
    assert len(seen) == 8
    again, failures, said = evaluate(restorer=["noisy", "median"])
    assert (again, failures, len(seen)) == (first, 0, 8)
    assert said.count("there already") == 2


def test_what_decides_the_figures_makes_another_run(evaluate, tmp_path):
    path = write_network(tmp_path / "net.safetensors")
    runs = [
        {"restorer": f"a=dncnn={path}"},
        {"restorer": f"a=dncnn={write_network(tmp_path / 'other.safetensors', seed=1)}"},
        {"restorer": f"a=dncnn={path}", "seed": 1},
        {"restorer": f"a=dncnn={path}", "limit": 3},
    ]
    for more in runs:
        assert "there already" not in evaluate(**more)[2]
    for changes in (("noise=salt_and_pepper",), ("noise.level=0.2",), ("protocol.crop=16",), ("protocol=released",)):
        assert "there already" not in evaluate(*changes, restorer=f"a=dncnn={path}")[2]
    assert len(list((tmp_path / "out").rglob("*.json"))) == 8


def test_a_failing_restorer_does_not_stop_the_others(evaluate, monkeypatch):
    monkeypatch.setattr("naf.weights.embedded_path", lambda name: None)
    records, failures, said = evaluate(
        "noise.level=0.1,0.2", restorer=["dncnn", "naf=/no/such/file.safetensors", "noisy"]
    )
    assert [record.upsampler for record in records] == ["noisy", "noisy"]
    assert failures == 4
    assert "failed: gaussian, dncnn: the package carries no weights" in said
    assert "failed: gaussian, naf=/no/such/file.safetensors: " in said


def test_a_damaged_image_is_named_and_the_others_of_the_run_are_kept(tmp_path, seen):
    photos = write_photos(tmp_path / "photos")
    (photos / "2.png").write_bytes((photos / "2.png").read_bytes()[:60])
    records, failures, said = denoise(photos, folder=tmp_path / "out")
    assert (records, failures) == ([], 1)
    assert f"failed: gaussian 0.1, noisy: {photos / '2.png'}: " in said
    save_scene(photos / "2.png", 2)
    assert denoise(photos, folder=tmp_path / "out")[1] == 0


def test_a_too_small_image_is_named(tmp_path):
    save_grey(tmp_path / "photos/strip.png", (40, 4))
    _, failures, said = denoise(tmp_path / "photos", folder=tmp_path / "out")
    assert failures == 1
    assert "strip.png: is 40 x 4 pixels, expected at least 6 on each side" in said


def test_large_images_keep_within_the_memory(tmp_path, monkeypatch):
    save_scene(tmp_path / "photos/large.png", 0, (160, 120))
    path = write_network(tmp_path / "net.safetensors")
    parts, restore = [], DnCNN._restore

    def spy(self, noisy):
        parts.append(tuple(noisy.shape[2:]))
        return restore(self, noisy)

    monkeypatch.setattr(DnCNN, "_restore", spy)
    words = {"restorer": f"dncnn={path}"}
    (whole,), *_ = denoise(tmp_path / "photos", folder=tmp_path / "whole", **words)
    assert parts == [(120, 160)]
    (tiled,), *_ = denoise(tmp_path / "photos", folder=tmp_path / "tiled", memory_budget=0, **words)
    assert len(parts) > 5
    assert tiled.metrics == pytest.approx(whole.metrics, abs=1e-3)
    refused = {"restorer": [{"name": "restormer", "weights": "none"}], "memory_budget": 1}
    _, failures, said = denoise(tmp_path / "photos", folder=tmp_path / "refused", **refused)
    assert failures == 1
    assert "pass a larger memory_budget" in said


def test_a_perfect_result_has_no_mean(tmp_path):
    save_grey(tmp_path / "photos/grey.png", (8, 8))
    _, failures, said = denoise(
        tmp_path / "photos", "noise=salt_and_pepper", "noise.level=1e-9", folder=tmp_path / "out"
    )
    assert failures == 1
    assert "grey.png: PSNR is inf, expected a finite number" in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"restorer": "naff"}, "restorer 'naff' is unknown"),
        ({"noise": {"kind": "speckle", "level": 0.1}}, "noise.kind is 'speckle', expected one of gaussian"),
        ({"noise": {"kind": "salt-and-pepper", "level": 1.5}}, "noise.level is 1.5"),
        ({"device": "no"}, "device is 'no'"),
        ({"protocol": {"crop": 2}}, "protocol.crop is 2"),
    ],
)
def test_errors_come_before_any_work(evaluate, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**more)
    assert not (tmp_path / "out").exists()


def test_a_missing_or_empty_folder_is_named_before_any_work(tmp_path):
    for make in (lambda: None, (tmp_path / "photos").mkdir):
        make()
        with pytest.raises(ValueError, match=f"{tmp_path / 'photos'}: no "):
            denoise(tmp_path / "photos", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_are_written_once_beside_the_record(evaluate, root, tmp_path, seen):
    (record,), *_ = evaluate(restorer="median")
    before = len(seen)
    evaluate(restorer="median", pictures=2)
    assert len(seen) == before + 2
    evaluate(restorer="median", pictures=2)
    assert len(seen) == before + 2
    (file,) = (tmp_path / "out").rglob("*.json")
    names = [f"000{i}-{i}-{kind}.png" for i in range(2) for kind in ("clean", "noisy", "restored")]
    folder = file.with_suffix("")
    assert sorted(path.name for path in folder.iterdir()) == names
    pixels = {name: np.array(Image.open(folder / name)).astype(float) / 255 for name in names}
    with Image.open(root / "1.png") as clean:
        assert np.array_equal(pixels["0001-1-clean.png"] * 255, np.array(clean))
    error = np.square(pixels["0001-1-restored.png"] - pixels["0001-1-clean.png"]).mean()
    assert -10 * math.log10(error) == pytest.approx(record.details["images"]["1.png"]["psnr"], abs=0.05)
    assert np.square(pixels["0001-1-noisy.png"] - pixels["0001-1-clean.png"]).mean() > error


def test_a_dry_run_takes_two_images_and_says_how_long_the_whole_takes(evaluate, tmp_path):
    (record,), failures, said = evaluate(sanity=True)
    assert (record.images, failures) == ({"test": 2}, 0)
    assert "for the whole of it, at this pace" in said
    assert all("out/sanity/folder" in str(path) for path in (tmp_path / "out").rglob("*.json"))


def test_files_of_details_are_plain_json(evaluate, tmp_path):
    (record,), *_ = evaluate("noise.level=[0.1,0.5]", restorer="bilateral")
    assert json.loads(json.dumps(record.as_dict())) == record.as_dict()
    assert set(record.details["fitted"]) == {"0.1", "0.2", "0.3", "0.4", "0.5"}
