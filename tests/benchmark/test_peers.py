"""The peers benchmark measures what it says; how fast anything is, is not a test's business."""

import json
import re
import sys

import pytest
from typer.testing import CliRunner

import naf
from naf.benchmark import peers
from naf.cli import app
from tests.benchmark.test_official import write

SMALL = {"channels": 8, "side": 32, "grid": 4, "rounds": 2}

# JAFAR with the layout of NAF's repository: the names of our state dict, outputs one hundredth larger.
JAFAR = """
from naf.upsamplers.jafar import JAFAR as Ours
from src.layers import factor
class JAFAR(Ours):
    def __init__(self, dim=128, v_dim=384):
        super().__init__(qk_dim=dim, v_dim=v_dim)
    def forward(self, image, features, output_size):
        return factor() * super().forward(image, features, output_size)
"""
BILINEAR = """
from torch import nn
from torch.nn.functional import interpolate
class Bilinear(nn.Module):
    def forward(self, image, features, output_size):
        return interpolate(features, output_size, mode="bilinear")
"""
REPOSITORY = {
    "src/__init__.py": "",
    "src/layers/__init__.py": "def factor(): return 1.01",
    "src/model/naf.py": "import a_package_that_nobody_has",
    "src/model/jafar.py": JAFAR,
    "src/model/bilinear.py": BILINEAR,
}


def by_name(report):
    return {result.upsampler: result for result in report.results}


def test_every_upsampler_is_measured_except_those_that_need_more():
    report = peers(**{**SMALL, "channels": 16, "side": 64, "rounds": 1})
    about = {name: naf.registry.entry(name) for name in naf.list_upsamplers()}
    own = [name for name, it in about.items() if it.needs_backbone or it.cls.fits_one_image or not it.cls.uses_features]
    assert list(report.left_out) == own
    assert "large-image" in own
    assert not report.failures
    assert [result.upsampler for result in report.results] == [name for name in about if name not in own]
    assert by_name(report)["naf"].ours.parameters == about["naf"].parameters
    assert by_name(report)["jafar"].ours.parameters < about["jafar"].parameters  # made for 16 channels, not 384
    assert all(result.ours.time_ms > 0 and result.ours.spread >= 1 for result in report.results)
    assert report.setting["features"] == [1, 16, 4, 4]
    assert report.setting["image"] == report.setting["output"] == [64, 64]


def test_the_image_can_have_another_size_than_the_output(tmp_path):
    text = BILINEAR.replace("return", "assert image.shape[2:] == (48, 48)\n        return")
    files = {**REPOSITORY, "src/model/bilinear.py": text}
    report = peers(["bilinear", "lift"], official=[write(tmp_path, files)], image_side=48, **SMALL)
    assert not report.failures
    assert report.results[0].official[0].difference < 1e-6
    assert (report.setting["image"], report.setting["output"]) == ([48, 48], [32, 32])


def test_official_code_runs_with_our_weights_and_its_outputs_are_compared(tmp_path):
    path, modules = sys.path[:], set(sys.modules)
    report = peers(["jafar", "bilinear"], official=[write(tmp_path, REPOSITORY)], **SMALL)
    assert sys.path == path
    assert not [name for name in set(sys.modules) - modules if name.split(".")[0] == "src"]
    (jafar,), (bilinear,) = (by_name(report)[name].official for name in ("jafar", "bilinear"))
    assert jafar.repository == "valeoai/NAF"
    assert jafar.difference == pytest.approx(0.01 / 1.01, rel=1e-3)  # other weights would differ by far more
    assert bilinear.difference < 1e-6
    assert jafar.cost.parameters == by_name(report)["jafar"].ours.parameters
    assert not report.failures


def test_ratios_are_official_over_ours(tmp_path):
    size = {"channels": 64, "side": 256, "grid": 16, "rounds": 2}  # an output of 16 MiB is seen
    result = by_name(peers(["bilinear"], official=[write(tmp_path, REPOSITORY)], **size))["bilinear"]
    (official,) = result.official
    assert official.time_ratio == pytest.approx(official.cost.time_ms / result.ours.time_ms)
    assert official.memory_ratio == pytest.approx(official.cost.peak_mib / result.ours.peak_mib)
    assert result.ours.peak_mib > 15


def test_rounds_alternate_between_ours_and_the_official_one(tmp_path):
    calls = []
    peers(
        ["bilinear", "jafar"],
        official=[write(tmp_path, REPOSITORY)],
        on_call=lambda label, done, total: calls.append((label, done / total)),
        **SMALL,
    )
    turn = ["bilinear", "bilinear of valeoai/NAF", "jafar", "jafar of valeoai/NAF"]
    assert [label for label, _ in calls] == ["bilinear", "jafar", *turn, *turn, ""]
    assert [share for _, share in calls] == sorted(share for _, share in calls)
    assert calls[-1][1] == 1


def test_two_repositories_with_one_package_name_are_measured_side_by_side(tmp_path):
    jafar = JAFAR.replace("dim=128, v_dim=384", "v_dim").replace("qk_dim=dim, ", "")
    own = {"src/layers/__init__.py": "def factor(): return 1.5", "src/upsampler/jafar.py": jafar}
    folders = [write(tmp_path / "naf", REPOSITORY), write(tmp_path / "jafar", own)]
    (result,) = peers(["jafar"], official=folders, **SMALL).results
    assert [other.repository for other in result.official] == ["valeoai/NAF", "PaulCouairon/JAFAR"]
    assert result.official[1].difference == pytest.approx(1 / 3, rel=1e-3)


def test_imports_at_the_time_of_the_call_are_found(tmp_path):
    late = BILINEAR.replace("        return", "        import src.late\n        return")
    files = {"src/model/naf.py": "", "src/model/bilinear.py": late, "src/late.py": ""}
    report = peers(["bilinear"], official=[write(tmp_path, files)], **SMALL)
    assert report.results[0].official
    assert not report.failures


def test_outputs_of_other_weights_are_not_compared(tmp_path):
    other = BILINEAR.replace("    def forward", "    def __init__(self):\n        super().__init__()\n"
                             "        self.extra = nn.Linear(1, 1)\n    def forward")  # fmt: skip
    files = {"src/model/naf.py": "", "src/model/bilinear.py": other}
    (result,) = peers(["bilinear"], official=[write(tmp_path, files)], **SMALL).results
    assert result.official[0].difference is None
    assert result.official[0].time_ratio > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('no GPU\\nmore')", "bilinear of valeoai/NAF: RuntimeError: no GPU"),
        ("import a_package_that_nobody_has", "ModuleNotFoundError: No module named 'a_package_that_nobody_has'"),
        ("exit('unsupported')", "SystemExit: unsupported"),
        ("def (", "SyntaxError: invalid syntax"),
        ("Linear = None", "AttributeError: module 'src.model.bilinear' has no attribute 'Bilinear'"),
        (BILINEAR.replace("output_size, mode", "(8, 8), mode"), r"shape (1, 8, 8, 8), expected (1, 8, 32, 32)"),
        (BILINEAR.replace("interpolate(f", "interpolate(1 / 0 * f"), "ZeroDivisionError: division by zero"),
        (BILINEAR.replace("interpolate(f", "interpolate(float('nan') * f"), "values that are not finite"),
    ],
)
def test_what_fails_in_a_checkout_is_told_in_one_line_and_the_rest_is_measured(tmp_path, text, message):
    files = {**REPOSITORY, "src/model/bilinear.py": text}
    report = peers(["jafar", "bilinear"], official=[write(tmp_path, files)], **SMALL)
    (line,) = report.failures
    assert message in line
    assert "\n" not in line
    assert by_name(report)["bilinear"].official == ()
    assert by_name(report)["bilinear"].ours.time_ms > 0
    assert len(by_name(report)["jafar"].official) == 1


def test_folders_that_cannot_serve_are_told(tmp_path):
    unknown = write(tmp_path / "unknown", {"model.py": ""})
    anyup = write(tmp_path / "anyup", {"anyup/model.py": ""})
    report = peers(["bilinear"], official=[tmp_path / "gone", unknown, anyup], **SMALL)
    gone, other, idle = report.failures
    assert gone.endswith("gone: no such folder")
    assert "not a repository that is known" in other
    assert idle == "wimmerth/anyup: none of the measured upsamplers, it has anyup"


def test_a_module_of_an_unknown_repository_can_be_named(tmp_path):
    folders = [write(tmp_path / "empty", {"src/model/naf.py": ""}), write(tmp_path / "mine", {"net/up.py": BILINEAR})]
    report = peers(["bilinear"], official=folders[1:], modules={"bilinear": "net.up:Bilinear"}, **SMALL)
    assert report.results[0].official[0].repository == "mine"
    assert report.results[0].official[0].difference < 1e-6
    assert not report.failures
    wrong = {"bilinear": "net.down:Bilinear", "jafar": "net.up:JAFAR"}
    lines = peers(["bilinear"], official=folders[1:], modules=wrong, **SMALL).failures
    assert lines[0] == "bilinear: net.down:Bilinear is in none of the given repositories"
    assert lines[1] == "net.up:JAFAR: jafar is not among the measured upsamplers"


def test_a_setting_that_ours_cannot_serve_is_told(tmp_path):
    report = peers(["loftup", "bilinear"], **{**SMALL, "channels": 5})
    assert [result.upsampler for result in report.results] == ["bilinear"]
    assert report.failures[0].startswith("loftup: ValueError: num_heads")


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [
        (["bilinaer"], {}, "did you mean 'bilinear'"),
        (["large-image"], {}, "nothing to measure: large-image"),
        ([], {}, "nothing to measure"),
        (["bilinear"], {"grid": 0}, "grid"),
        (["bilinear"], {"image_side": 0}, "image_side"),
        (["bilinear"], {"rounds": 0}, "rounds"),
    ],
)
def test_bad_arguments_are_refused(names, size, message):
    with pytest.raises(ValueError, match=message):
        peers(names, **{**SMALL, **size})


def test_the_command_prints_a_table_and_writes_json(tmp_path):
    folder = write(tmp_path / "clone", REPOSITORY)
    options = ["--channels", "8", "--side", "32", "--grid", "4", "--rounds", "1", "--json", str(tmp_path / "r.json")]
    names = "naf,bilinear,large-image"
    result = CliRunner().invoke(app, ["bench", "peers", "-u", names, "--official", str(folder), *options])
    assert result.exit_code == 0, result.output
    (row,) = re.findall(r"^bilinear .*", result.stdout, re.MULTILINE)
    report = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)  # strict: no NaN
    (official,) = report["results"][1]["official"]
    assert row.split()[-3:] == [
        f"{official['time_ratio']:.2f}x",
        f"{official['memory_ratio']:.2f}x" if official["memory_ratio"] is not None else "-",
        f"{official['difference']:.1e}",
    ]
    assert "left out: large-image" in result.stdout
    assert "No module named 'a_package_that_nobody_has' (it needs NATTEN)" in result.stdout
    assert report["left_out"] == ["large-image"]


def test_the_command_refuses_a_malformed_module():
    result = CliRunner().invoke(app, ["bench", "peers", "--module", "jafar=net.up"])
    assert isinstance(result.exception, ValueError)
    assert "expected NAME=MODULE:CLASS" in str(result.exception)
