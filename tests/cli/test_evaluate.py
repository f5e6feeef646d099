"""`naf eval` as a user runs it."""

from functools import partial

import pytest

from naf.evaluation import probe
from naf.evaluation.denoisers import Denoiser
from tests.cli.called import error_of_verb, invoke_verb
from tests.evaluation.tiny_photos import write_network, write_photos
from tests.evaluation.tiny_set import TINY, write_camvid


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    return write_camvid(tmp_path_factory.mktemp("camvid"))


@pytest.fixture
def words(camvid, tmp_path):
    return ["dataset=camvid", f"dataset.root={camvid}", f"folder={tmp_path / 'results'}", "cache=null", *TINY]


invoke, error_of = partial(invoke_verb, "eval"), partial(error_of_verb, "eval")


def test_help_lists_the_verbs():
    said = invoke("--help")
    for verb in ("segmentation", "depth", "video", "filter", "ratio", "denoise"):
        assert f" {verb} " in said
    assert "mean IoU" in invoke("segmentation", "--help")
    assert "PSNR" in invoke("denoise", "--help")


@pytest.mark.parametrize("verb", ["segmentation", "filter", "ratio"])
def test_a_command_writes_records_and_goes_on(words, tmp_path, verb):
    more = ["sizes=16,32"] if verb == "ratio" else ["upsampler=nearest,bilinear"]
    stdout = invoke(verb, *words, *more)
    assert "2 results; naf eval report" in stdout
    assert "miou" in stdout
    files = sorted((tmp_path / "results").rglob("*.json"))
    assert len(files) == 2
    before = [file.stat().st_mtime_ns for file in files]
    assert invoke(verb, *words, *more).count("there already") == 2
    assert [file.stat().st_mtime_ns for file in files] == before


def test_a_failed_run_is_told_and_the_status_is_1(words):
    stdout = invoke("segmentation", *words, "upsampler=naf=/no/such/file.safetensors,nearest", status=1)
    assert "failed: Tiny, naf=/no/such/file.safetensors: " in stdout
    assert "1 result; naf eval report" in stdout
    assert "1 run failed" in stdout


def test_without_results_there_is_no_estimate_and_nothing_to_report(words):
    stdout = invoke("segmentation", *words, "upsampler=naf=/no/such/file.safetensors", "sanity=true", status=1)
    assert "0 results\n" in stdout
    assert "naf eval report" not in stdout
    assert "at this pace" not in stdout
    assert "at this pace" in invoke("segmentation", *words, "upsampler=nearest", "sanity=true")


def test_ctrl_c_says_how_to_go_on(words, monkeypatch):
    def stop(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(probe, "predict", stop)
    assert "stopped: the same command goes on from here" in invoke("segmentation", *words, status=130)


def test_files_of_ones_own(words, tmp_path):
    (tmp_path / "configs/experiment").mkdir(parents=True)
    (tmp_path / "configs/experiment/mine.yaml").write_text(
        "# @package _global_\nupsampler: [bilinear, nearest]\nseeds: [0, 1]\n", encoding="utf-8"
    )
    given = [word for word in words if not word.startswith(("upsampler", "seeds"))]
    assert "4 results" in invoke("segmentation", "--config-dir", tmp_path / "configs", "experiment=mine", *given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "dataset is missing, expected dataset=NAME. Known: ade20k, camvid"),
        (["dataset=camvit"], "dataset=camvit is unknown, did you mean camvid?"),
        (["dataset=camvid", "dataset.root=x", "backbone=hog"], "upsampler is missing, expected upsampler="),
    ],
)
def test_what_is_missing_or_unknown_is_one_line(monkeypatch, capsys, arguments, message):
    assert message in error_of(monkeypatch, capsys, "segmentation", *arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("protocol.epocs=2", "key 'protocol.epocs' is unknown, did you mean protocol.epochs"),
        ("protocol=paper,released", "protocol takes one value"),
        ("seeds=0,0", "seeds is [0, 0], expected each once"),
        ("head=foo", "head is 'foo', expected linear or dense"),
        ("device=foo", "device is 'foo', expected auto or a device of this machine"),
        ("upsampler=naff", "upsampler 'naff' is unknown, did you mean"),
        ("backbone=no_such_network", "no_such_network"),
        ("workers=two", "workers: Value 'two'"),
        ("protocol.lr=fast", "protocol.lr is 'fast', expected a number"),
        ("dataset.root=/no/such/folder", "/no/such/folder"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, words, tmp_path, change, message):
    assert message in error_of(monkeypatch, capsys, "segmentation", *words, change)
    assert not (tmp_path / "results").exists()


# Denoising -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def noisy_words(tmp_path):
    photos = write_photos(tmp_path / "photos", 2)
    given = ["dataset=folder", f"dataset.root={photos}", "noise=gaussian", "noise.level=0.1,0.5", "device=cpu"]
    return [*given, f"folder={tmp_path / 'results'}"]


def test_denoise_writes_a_record_of_each_restorer_and_level_and_a_report(noisy_words, tmp_path):
    words = [*noisy_words, f"restorer=noisy,mine=dncnn={write_network(tmp_path / 'net.safetensors')}", "pictures=1"]
    stdout = invoke("denoise", *words)
    assert "gaussian 0.5, mine, seed 0: psnr" in stdout
    assert "4 results; naf eval report" in stdout
    assert len(list((tmp_path / "results").rglob("*-restored.png"))) == 4
    assert invoke("denoise", *words).count("there already") == 4
    invoke("report", tmp_path / "results")
    assert "| restorer" in (tmp_path / "results/report/report.md").read_text()


def test_ctrl_c_in_denoising_says_how_to_go_on(noisy_words, monkeypatch):
    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(Denoiser, "__call__", stop)
    said = invoke("denoise", *noisy_words, "restorer=noisy", status=130)
    assert "stopped: the same command goes on from here" in said


def test_a_restorer_that_cannot_be_had_is_told(noisy_words):
    stdout = invoke("denoise", *noisy_words, "restorer=noisy,naf=/no/such/file.safetensors", status=1)
    assert "failed: gaussian, naf=/no/such/file.safetensors: " in stdout
    assert "2 results; naf eval report" in stdout
    assert "2 runs failed" in stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("restorer=nosy", "restorer 'nosy' is unknown, did you mean 'noisy'?"),
        ("noise.level=-1", "noise.level is -1, expected a number from 0"),
        ("dataset.root=/no/such/folder", "/no/such/folder: no such folder, expected one with the images of folder"),
        ("protocol=sampled", "protocol=sampled is unknown"),
        ("upsampler=naf", "key 'upsampler' is unknown"),
    ],
)
def test_errors_of_denoising_are_one_line(monkeypatch, capsys, noisy_words, tmp_path, change, message):
    assert message in error_of(monkeypatch, capsys, "denoise", *noisy_words, "restorer=noisy", change)
    assert not (tmp_path / "results").exists()
