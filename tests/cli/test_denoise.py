"""`naf denoise`, called as a user calls it, with small networks."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from typer.testing import CliRunner

import naf.restoration
from naf.cli import app
from naf.cli import denoise as verb
from naf.data.photo_file import Photo, read_photo, write_photo
from naf.restoration.metrics import psnr
from naf.restoration.noise import NOISES
from naf.weight_writer import write_weights
from tests.cli.called import error_of_verb, invoke_verb
from tests.restoration.networks import small

CAT = data.chelsea()[60:124, 120:168]


def write_restorer(path, name="naf"):
    restorer = small(name)
    record = naf.restoration.record_of(restorer)
    record.about["noise"] = "GaussianNoise(level=0.1)"
    write_weights(path, restorer.state_dict(), record)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_restorer(tmp_path_factory.mktemp("weights") / "naf.safetensors")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with cat.png that is the working directory."""
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "cat.png", Photo(CAT))
    return tmp_path


def called(*arguments, status=0):
    result = CliRunner().invoke(app, ["denoise", *map(str, arguments)])
    assert result.exit_code == status, (result.output, result.exception)
    return result


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def restored_by(weights, photo, **options):
    """What the library makes of a photo."""
    method = naf.restoration.create("naf", weights=weights)
    return photo.with_image(method.restore(photo.image[None], **options)[0]).samples


# Results ------------------------------------------------------------------------------------------------------------


def test_the_result_is_what_the_library_restores(here, weights):
    said = invoke_verb("denoise", "cat.png", "--weights", weights).splitlines()
    assert said[0] == f"restorer   naf, weights: {weights}, trained on GaussianNoise(level=0.1)"
    expected = r"cat\.png: 64x48, 8-bit colour, \d+\.\d\d s, peak \d+ MiB → out/cat_denoised\.png"
    assert re.fullmatch(expected, said[1])
    assert names_in("out") == ["cat_denoised.png"]
    result = read_photo("out/cat_denoised.png").samples
    np.testing.assert_array_equal(result, restored_by(weights, read_photo("cat.png")))
    assert (result != CAT).any()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("depth", "samples"), [(8, 1), (8, 2), (8, 4), (16, 1), (16, 2), (16, 3), (16, 4)])
def test_a_result_is_of_the_photos_kind(here, weights, depth, samples, suffix):
    alpha = np.random.default_rng(0).integers(0, 2**depth, CAT.shape[:2])
    values = np.dstack([*np.moveaxis(CAT, -1, 0)[: 1 if samples < 3 else 3].astype(int) * (257 if depth == 16 else 1)])
    values = np.dstack([values, alpha]) if samples in (2, 4) else values
    profile = b"\0" * 128
    photo = Photo(values.astype(np.uint16 if depth == 16 else np.uint8), profile, {271: "Canon"}, (300.0, 300.0))
    write_photo(here / f"a{suffix}", photo)
    said = invoke_verb("denoise", f"a{suffix}", "--weights", weights)
    kind = f"{depth}-bit {'grey' if samples < 3 else 'colour'}{' with alpha' if samples in (2, 4) else ''}, "
    assert f"64x48, {kind}" in said
    result = read_photo(f"out/a_denoised{suffix}")
    assert result.samples.dtype == photo.samples.dtype
    np.testing.assert_array_equal(result.samples, restored_by(weights, photo))
    if photo.has_alpha:
        np.testing.assert_array_equal(result.alpha, alpha)
    assert (result.profile, result.exif) == (profile, {271: "Canon"})
    assert result.dpi == pytest.approx((300, 300), abs=0.02)
    if depth == 16:
        assert (result.colour % 257 != 0).mean() > 0.9  # more than 8 bits' worth


def test_a_grey_photo_is_restored_as_three_equal_channels_and_averaged(here, weights):
    write_photo(here / "grey.png", Photo(CAT[..., :1]))
    called("grey.png", "--weights", weights)
    grey = torch.from_numpy(CAT[..., 0].astype(np.float32) / 255).expand(1, 3, -1, -1)
    restored = naf.restoration.create("naf", weights=weights)(grey)
    expected = (restored.mean(1)[0].clamp(0, 1) * 255).round().detach().numpy()
    assert np.abs(read_photo("out/grey_denoised.png").samples[..., 0] - expected).max() <= 1


def test_a_turned_jpeg_becomes_an_upright_png(here, weights):
    write_photo(here / "b.jpg", Photo(CAT, None, {0x0112: 6, 271: "Canon"}))
    called("b.jpg", "--weights", weights)
    with Image.open("out/b_denoised.png") as image:
        assert image.size == (64, 48)
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif()[271] == "Canon"


def test_one_photo_may_have_a_file_as_its_result(here, weights):
    called("cat.png", "--weights", weights, "-o", "new/clean.jpg")
    with Image.open("new/clean.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (48, 64))
    called("cat.png", "--weights", weights, "-o", "new/clean.tif", "--add-noise", "0.1")
    assert names_in("new") == ["clean.jpg", "clean.tif", "clean_noisy.tif"]


def test_a_large_photo_in_bands_is_the_whole_within_rounding(here, weights, monkeypatch):
    asked, bands = [], []
    restore = naf.restoration.naf.NAFRestorer.restore

    def watched(self, noisy, **options):
        show = options.pop("on_progress")
        asked.append(options)
        return restore(self, noisy, **options, on_progress=lambda share: (bands.append(share), show(share)))

    monkeypatch.setattr(naf.restoration.naf.NAFRestorer, "restore", watched)
    write_photo(here / "tall.png", Photo(np.tile(CAT, (8, 1, 1))))
    called("tall.png", "--weights", weights, "-o", "whole")
    assert asked[0]["memory_budget"] == 2 << 30
    bands.clear()
    called("tall.png", "--weights", weights, "-o", "parts", "--memory", "1", "--approximate")
    assert asked[1] == {"memory_budget": 1 << 20, "approximate": True}
    assert len(bands) > 2
    whole, parts = (read_photo(f"{folder}/tall_denoised.png").samples.astype(int) for folder in ("whole", "parts"))
    assert np.abs(whole - parts).max() <= 1


# Noise to try it out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "level"), [("gaussian", 0.2), ("salt-and-pepper", 0.4)])
def test_added_noise_is_written_and_measured(here, weights, kind, level):
    said = invoke_verb("denoise", "cat.png", "--weights", weights, "--noise", kind, "--add-noise", level, "--seed", "3")
    clean = read_photo("cat.png")
    noisy = NOISES[kind](level)(clean.image, torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(read_photo("out/cat_noisy.png").samples, clean.with_image(noisy).samples)
    called("out/cat_noisy.png", "--weights", weights, "-o", "again.png")  # the file is what was restored
    np.testing.assert_array_equal(read_photo("out/cat_denoised.png").samples, read_photo("again.png").samples)
    before, after = (
        psnr(read_photo(f"out/cat_{which}.png").image[None], clean.image[None]).item()
        for which in ("noisy", "denoised")
    )
    assert f"PSNR {before:.2f} → {after:.2f} dB → out/cat_denoised.png, out/cat_noisy.png" in said


def test_grey_and_alpha_take_noise_in_the_colour_only(here, weights):
    write_photo(here / "grey.png", Photo(np.dstack([CAT[..., 0], CAT[..., 1]])))
    called("grey.png", "--weights", weights, "--add-noise", "0.2")
    noisy = read_photo("out/grey_noisy.png")
    assert noisy.samples.shape[2] == 2
    np.testing.assert_array_equal(noisy.alpha, CAT[..., 1])
    grey = torch.from_numpy(CAT[..., 0].astype(np.float32) / 255)[None]
    drawn = NOISES["gaussian"](0.2)(grey, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(noisy.colour[..., 0], (drawn[0].clamp(0, 1) * 255).round().numpy())


# Several photos -----------------------------------------------------------------------------------------------------


def test_results_that_are_there_are_kept_unless_asked(here, weights):
    called("cat.png", "--weights", weights)
    result = here / "out/cat_denoised.png"
    whole = result.read_bytes()
    result.write_bytes(b"mine")
    assert "cat.png: skipped, out/cat_denoised.png exists" in called("cat.png", "--weights", weights).stdout
    assert result.read_bytes() == b"mine"
    called("cat.png", "--weights", weights, "--overwrite")
    assert result.read_bytes() == whole


def test_results_beside_the_photos_are_not_restored_again(here, weights):
    for _ in range(2):
        called(here, "--weights", weights, "-o", here, "--add-noise", "0.1", "--overwrite")
        assert names_in(here) == ["cat.png", "cat_denoised.png", "cat_noisy.png"]
    np.testing.assert_array_equal(read_photo("cat.png").samples, CAT)


def test_a_damaged_photo_does_not_stop_the_others(here, weights):
    shutil.copy("cat.png", "dog.png")
    Path("bad.jpg").write_text("no picture")
    write_photo(here / "clear.png", Photo(np.dstack([CAT, CAT[..., :1]])))
    result = called("bad.jpg", "cat.png", "gone.png", "dog.png", "--weights", weights, status=1)
    assert "error: bad.jpg: is no image" in result.stderr
    assert "error: gone.png: no such file" in result.stderr
    assert result.stderr.endswith("error: 2 of 4 photos failed\n")
    assert names_in("out") == ["cat_denoised.png", "dog_denoised.png"]
    result = called("clear.png", "--weights", weights, "-o", "a.jpg", status=1)
    assert "JPEG cannot hold this photo's alpha" in result.stderr
    assert not Path("a.jpg").exists()


def test_after_ctrl_c_finished_photos_stay_and_nothing_is_half_written(here, weights, monkeypatch):
    shutil.copy("cat.png", "dog.png")
    write = verb.write_photo

    def stopped(path, photo):
        if "dog" in path.name:
            raise KeyboardInterrupt
        write(path, photo)

    monkeypatch.setattr(verb, "write_photo", stopped)
    result = called("cat.png", "dog.png", "--weights", weights, status=130)
    assert result.stderr == "stopped after 1 of 2 photos: the same command goes on there\n"
    assert names_in("out") == ["cat_denoised.png"]


# Weights ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "salt-and-pepper"])
@pytest.mark.parametrize("asked", [[], ["--weights", "embedded"]])
def test_the_noise_chooses_the_packages_weights(here, weights, monkeypatch, kind, asked):
    monkeypatch.setattr("naf.weights.embedded_path", lambda name: weights if name == f"denoise-naf-{kind}" else None)
    said = invoke_verb("denoise", "cat.png", "--noise", kind, *asked)
    assert f"weights: embedded:{kind}" in said
    if kind == "gaussian":  # what is taken where nothing is said
        assert f"weights: embedded:{kind}" in invoke_verb("denoise", "cat.png", "-o", "b")


@pytest.mark.parametrize("kind", ["gaussian", "salt-and-pepper"])
@pytest.mark.parametrize("level", [0.1, 0.3, 0.5])
def test_the_packages_weights_remove_noise(here, kind, level):
    said = invoke_verb("denoise", "cat.png", "--noise", kind, "--add-noise", level)
    before, after = map(float, re.search(r"PSNR ([\d.]+) → ([\d.]+) dB", said).groups())
    assert after > before + 5


def test_a_photo_of_little_noise_is_told_of(here):
    assert "its noise is only about 0.0" in invoke_verb("denoise", "cat.png")
    invoke_verb("denoise", "cat.png", "--add-noise", 0.2, "-o", "noisy.png")
    assert "its noise" not in invoke_verb("denoise", "noisy_noisy.png")
    assert "its noise" not in invoke_verb("denoise", "cat.png", "--noise", "salt-and-pepper", "-o", "other")


@pytest.mark.parametrize("name", ["naf", "restormer"])
def test_an_untrained_network_is_refused(here, monkeypatch, capsys, name):
    monkeypatch.setattr("naf.weights.embedded_path", lambda _: None)
    for arguments, message in (
        ([], f"no weights of '{name}' for gaussian noise: give some with --weights FILE"),
        (["--noise", "salt-and-pepper"], f"no weights of '{name}' for salt-and-pepper noise"),
        (["--weights", "none"], "an untrained network spoils photos"),
        (["--weights", "embedded:gaussian"], "the package carries no weights"),
    ):
        said = error_of_verb("denoise", monkeypatch, capsys, "cat.png", "-r", name, *arguments)
        assert message in said
    assert not list(here.glob("out/*"))


def test_weights_of_another_method_are_refused(here, monkeypatch, capsys, tmp_path):
    other = write_restorer(tmp_path / "ircnn.safetensors", "ircnn")
    said = error_of_verb("denoise", monkeypatch, capsys, "cat.png", "--weights", other)
    assert "holds weights of 'denoise-ircnn', not of 'denoise-naf'" in said
    called("cat.png", "--weights", other, "-r", "ircnn")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["*.gif"], "matches no file"),
        (["cat.png", "-r", "nav"], "did you mean 'naf'"),
        (["cat.png", "--weights", "gone.safetensors"], "no such file"),
        (["cat.png", "--weights", "embedded:rain"], "expected embedded:gaussian or embedded:salt-and-pepper"),
        (["cat.png", "--device", "abacus"], "expected auto, cpu, cuda or mps"),
        (["cat.png", "-o", "cat.png/out"], "cannot be written to"),
        (["cat.png", "-o", "cat.png", "--overwrite"], "is the photo itself"),
        (["cat.png", "-o", "a.webp"], "expected .png, .tif, .tiff, .jpg, .jpeg"),
        (["cat.png", "dog.png", "-o", "a.png"], "2 photos are given"),
        (["cat.png", "--noise", "salt-and-pepper", "--add-noise", "1.5"], "expected a number from 0 to 1"),
        (
            ["cat.png", "--add-noise", "25"],
            "expected a number from 0 to 1, or (low, high) of such: divide that of 8-bit values by 255",
        ),
    ],
)
def test_bad_arguments_end_with_one_line_and_status_2(here, weights, monkeypatch, capsys, arguments, message):
    given = arguments if "--weights" in arguments else [*arguments, "--weights", weights]
    assert message in error_of_verb("denoise", monkeypatch, capsys, *given)
    np.testing.assert_array_equal(read_photo("cat.png").samples, CAT)
    assert not list(here.glob("out/*"))


def test_the_noisy_photo_does_not_replace_the_photo_either(here, weights, monkeypatch, capsys):
    (here / "cat.png").rename("cat_noisy.png")
    given = ["cat_noisy.png", "-o", "cat.png", "--add-noise", "0.2", "--overwrite", "--weights", weights]
    assert "cat_noisy.png is the photo itself" in error_of_verb("denoise", monkeypatch, capsys, *given)
    np.testing.assert_array_equal(read_photo("cat_noisy.png").samples, CAT)


def test_an_unknown_noise_is_refused(here):
    assert "salt-and-pepper" in called("cat.png", "--noise", "rain", status=2).output


def test_salt_and_pepper_is_taken_as_training_and_evaluation_write_it(here, weights):
    given = ["cat.png", "--weights", weights, "--add-noise", "0.4"]
    called(*given, "--noise", "salt-and-pepper", "-o", "a")
    called(*given, "--noise", "salt_and_pepper", "-o", "b")
    assert (here / "a/cat_noisy.png").read_bytes() == (here / "b/cat_noisy.png").read_bytes()
