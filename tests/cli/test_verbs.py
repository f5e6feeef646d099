"""The verbs, run as a user runs them, on the embedded backbone and real photos."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from skimage import data

import naf
from naf.releases import releases_of
from naf.visualization import PCAColors
from naf.visualization.pca import to_image

# No network and no cached weights: every machine takes the embedded backbone.
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent", "TERM": "dumb"}
ENVIRONMENT.pop("HF_HUB_CACHE", None)


def run(*arguments, cwd, status=0, **environment):
    command = [sys.executable, "-c", "from naf.cli import main; main()", *map(str, arguments)]
    environment = {**ENVIRONMENT, **environment}
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == status, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image, dtype=int)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray(data.chelsea()[:96, 100:228]).save(path)
    return path


def test_upsample_writes_features_that_equal_the_librarys(tmp_path, photo):
    result = run("upsample", photo, "-o", "results", "--backbone", "hog", cwd=tmp_path)
    assert "16 channels, 6x8 → 96x128 (x16)" in result.stdout
    with safe_open(tmp_path / "results/cat.safetensors", "pt") as file:
        features, metadata = file.get_tensor("features"), file.metadata()
    assert (metadata["grid"], metadata["stride"], metadata["backbone"]) == ("6x8", "16", "hog")
    image = naf.data.read_image(photo)[None]
    coarse = naf.backbones.create("hog")(image)
    with torch.inference_mode():
        expected = naf.create("naf")(naf.normalize(image), coarse, (96, 128))[0]
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    colors = np.asarray(to_image(PCAColors.fit(coarse).project(expected[None])[0]), dtype=int)
    assert abs(picture(tmp_path / "results/cat.png") - colors).max() <= 1


def test_upsample_sizes_formats_and_dtypes(tmp_path, photo):
    run("upsample", photo, "-b", "hog", "--size", "50x70", "--save", "npy", "--dtype", "float16", cwd=tmp_path)
    array = np.load(tmp_path / "out/cat.npy")
    assert (array.shape, array.dtype) == ((16, 50, 70), np.float16)
    run("upsample", photo, "-b", "hog", "-u", "bilinear", "--scale", "0.5", "--save", "none", "-o", "b", cwd=tmp_path)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["cat.png"]
    assert picture(tmp_path / "b/cat.png").shape == (48, 64, 3)


def test_colours_without_features_equal_colours_with_them(tmp_path, photo):
    run("upsample", photo, "-b", "hog", "-o", "with", cwd=tmp_path)
    run("upsample", photo, "-b", "hog", "-o", "without", "--save", "none", cwd=tmp_path)
    assert abs(picture(tmp_path / "with/cat.png") - picture(tmp_path / "without/cat.png")).max() <= 1


def test_results_are_not_overwritten_unless_asked(tmp_path, photo):
    run("upsample", photo, "-b", "hog", cwd=tmp_path)
    stored = tmp_path / "out/cat.safetensors"
    stored.write_bytes(b"mine")
    assert "skipped" in run("upsample", photo, "-b", "hog", cwd=tmp_path).stdout
    assert stored.read_bytes() == b"mine"
    run("upsample", photo, "-b", "hog", "--overwrite", cwd=tmp_path)
    assert stored.stat().st_size > 1000


def test_one_bad_file_does_not_stop_the_rest(tmp_path, photo):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a_text.jpg").write_text("no picture")
    whole = photo.read_bytes()
    (folder / "b_cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "c_good.png").write_bytes(whole)
    result = run("upsample", folder, "-b", "hog", cwd=tmp_path, status=1)
    assert "a_text.jpg: is no image" in result.stderr
    assert "b_cut.png: damaged" in result.stderr
    assert "2 of 3 photos failed" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["c_good.png", "c_good.safetensors"]


def test_a_missing_result_is_added_and_the_other_kept(tmp_path, photo):
    run("upsample", photo, "-b", "hog", "--save", "none", cwd=tmp_path)
    (tmp_path / "out/cat.png").write_bytes(b"mine")
    result = run("upsample", photo, "-b", "hog", cwd=tmp_path)
    assert "→ out/cat.safetensors (out/cat.png was there and is kept)" in result.stdout
    assert (tmp_path / "out/cat.png").read_bytes() == b"mine"


def test_a_terminal_that_knows_ascii_only_is_no_obstacle(tmp_path, photo):
    (tmp_path / "dog.png").write_bytes(photo.read_bytes())
    run("upsample", photo, "dog.png", "-b", "hog", cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_photo_of_one_cell_is_upsampled_too(tmp_path):
    Image.fromarray(data.chelsea()[:20, :20]).save(tmp_path / "tiny.png")
    run("upsample", "tiny.png", "-b", "hog", cwd=tmp_path)
    assert picture(tmp_path / "out/tiny.png").shape == (20, 20, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/*.png"], "matches no file"),
        (["cat.png", "--upsampler", "nav"], "did you mean 'naf'"),
        (["cat.png", "--backbone", "resnet10"], "unknown to timm"),
        (["cat.png", "--size", "12"], "expected HxW"),
        (["cat.png", "--device", "abacus"], "expected auto, cpu, cuda or mps"),
        (["cat.png", "--device", "meta"], "expected auto, cpu, cuda or mps"),
        (["cat.png", "--dtype", "int8"], "expected float32"),
        (["cat.png", "--weights", "gone.pth"], "no such file"),
        (["cat.png", "--neighborhood", "near"], "expected one of 'official', 'cell'"),
        (["cat.png", "-o", "cat.png/out"], "cannot be written to"),
        (["cat.png", "--save", "npy", "--dtype", "bfloat16"], "cannot hold"),
    ],
)
def test_bad_arguments_end_with_one_line_and_status_2(tmp_path, photo, arguments, message):
    backbone = [] if "--backbone" in arguments else ["--backbone", "hog"]
    result = run("upsample", *arguments, *backbone, cwd=tmp_path, status=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


def test_compare_writes_a_sheet_of_all_upsamplers(tmp_path, photo):
    result = run("compare", photo, "--upsamplers", "nearest,bilinear,naf", "-b", "hog", cwd=tmp_path)
    for name in ("nearest", "bilinear", "naf"):
        assert f"{name}: 96x128, " in result.stdout
    assert picture(tmp_path / "out/cat_compare.png").shape[1] > 3 * 480
    assert "exists" in run("compare", photo, "-b", "hog", cwd=tmp_path, status=2).stderr


def test_compare_takes_any_method_and_weights_for_single_ones(tmp_path, photo):
    trained = naf.create("jafar", weights=None, v_dim=16)
    save_file(trained.state_dict(), tmp_path / "jafar.safetensors")
    methods = "large-image,featsharp,jafar,anyup,featup,lift,loftup,jbu,jbf,guided"
    weights = "jafar=jafar.safetensors,anyup=none"
    result = run("compare", photo, "-u", methods, "-b", "hog", "--weights", weights, "--size", "24x32", cwd=tmp_path)
    assert "upsampler  jafar, weights: jafar.safetensors" in result.stdout
    assert "upsampler  anyup, weights: untrained\n" in result.stdout
    assert "upsampler  lift, weights: untrained (seed 0)" in result.stdout
    for name in methods.split(","):
        assert f"{name}: 24x32, " in result.stdout
    bad = run("compare", photo, "-b", "hog", "--weights", "jafar=a,b", "--overwrite", cwd=tmp_path, status=2)
    assert "expected one source, or NAME=SOURCE" in bad.stderr


def test_models_lists_every_release(tmp_path):
    lines = run("models", "--releases", cwd=tmp_path).stdout.splitlines()[1:]
    assert len(lines) == len(releases_of())
    for line, release in zip(lines, releases_of(), strict=True):
        assert f"{release.upsampler}  official:{release.name} " in line
        assert release.url in line
        assert release.licence in line


def test_models_lists_every_upsampler(tmp_path):
    result = run("models", cwd=tmp_path)
    rows = {line.split()[0]: line for line in result.stdout.splitlines()[1:] if line.strip()}
    assert sorted(rows) == naf.list_upsamplers()
    assert "662,528" in rows["naf"]
    assert "14,780,928" in rows["naf++"]


def test_bench_quick_prints_both_ratios_and_writes_json(tmp_path):
    result = run("bench", "quick", "--rounds", "1", "--json", "report.json", cwd=tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert f"{report['encode_ratio']:.2f}x" in result.stdout
    assert f"{report['attention_ratio']:.2f}x" in result.stdout
    assert "peak memory" in result.stdout


def test_demo_writes_a_sheet_and_features_for_each_photo(tmp_path):
    result = run("demo", cwd=tmp_path)
    assert "in place of DINOv3" in result.stdout
    folder = tmp_path / "out/demo"
    sizes = {"astronaut": (384, 512, 512), "chelsea": (384, 300, 451), "coffee": (384, 400, 600)}
    for name, shape in sizes.items():
        assert picture(folder / f"{name}.png").shape[1] > 4 * 480
        with safe_open(folder / f"{name}.safetensors", "pt") as file:
            features = file.get_tensor("features")
        assert (features.shape, features.dtype) == (shape, torch.float16)
        assert features.isfinite().all()
    assert len(list(folder.iterdir())) == 6


def test_the_installed_command_answers():
    command = Path(sys.executable).with_name("naf")
    if not command.exists():
        pytest.skip("the package is not installed beside this Python")
    result = subprocess.run([command, "--help"], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert "upsample" in result.stdout
