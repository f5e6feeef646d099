"""The pages of docs/ as they are written: their code runs, their commands parse, what they name is there."""

import inspect
import re
import shlex
import tomllib
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import typer.main
from PIL import Image
from safetensors.torch import load_file
from skimage import data

import naf
from naf.cli import app
from tests.app.server import running

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"(<!-- not run: .+ -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(name):
    return (DOCS / name).read_text()


# Code ----------------------------------------------------------------------------------------------------------------

# Models whose weights would be downloaded, and what stands for them here.
STAND_INS = {
    '"vit_small_patch16_dinov3.lvd1689m"': '"embedded"',
    '("vit_tiny_patch16_224", layer=5)': '("vit_tiny_patch16_224", layer=5, pretrained=False)',
    '("resnet18", layer=-2)': '("resnet18", layer=-2, pretrained=False)',
    "pretrained=True": "pretrained=False",
}
# They need what a reader has (weights of his own, an account), or draw for half a minute.
NOT_RUN = {"training.md", "theory.md"}


def python_blocks(text):
    return [code for skipped, language, code in FENCE.findall(text) if language == "python" and not skipped]


PAGES_WITH_CODE = [path for path in PAGES if path.name not in NOT_RUN and python_blocks(path.read_text())]


@pytest.mark.parametrize("path", PAGES_WITH_CODE, ids=lambda path: path.name)
def test_the_python_of_a_page_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    Image.fromarray(data.chelsea()[:96, :128]).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    with torch.random.fork_rng(devices=[]):
        for block in python_blocks(path.read_text()):
            for stated, stand_in in STAND_INS.items():
                block = block.replace(stated, stand_in)
            exec(compile(block, path.name, "exec"), names)
    assert any(isinstance(value, torch.Tensor) for value in names.values())


def test_the_example_of_the_app_is_answered(tmp_path, monkeypatch):
    pytest.importorskip("gradio_client")
    Image.fromarray(data.chelsea()).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (code,) = [code for _, language, code in FENCE.findall(read("app.md")) if language == "python"]
    names = {}
    with running() as started:
        exec(code.replace("http://127.0.0.1:7860", started.address), names)
    assert load_file(names["features"])["features"].shape == (384, *names["facts"]["output_size"])
    with Image.open(names["sharp"]) as sharp, Image.open(names["heat"]) as heat:
        assert sharp.size == heat.size
    assert names["scale"]["low"] < names["scale"]["high"]


def test_the_pages_with_code_are_found():
    names = {path.name for path in PAGES_WITH_CODE}
    assert {"index.md", "getting-started.md", "backbones.md", "visualization.md", "faq.md"} <= names


# Commands ------------------------------------------------------------------------------------------------------------


def commands(text):
    """Calls of naf in blocks of shell commands, continued lines joined."""
    for _, language, block in FENCE.findall(text):
        if language in ("", "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("naf "):
                    yield shlex.split(line, comments=True)[1:]


WRITTEN = [
    pytest.param(words, id=f"{path.name}: {' '.join(words)[:60]}")
    for path in [ROOT / "README.md", *PAGES]
    for words in commands(path.read_text())
]


@pytest.mark.parametrize("words", WRITTEN)
def test_every_command_is_one_that_naf_takes(words):
    command, name = typer.main.get_command(app), "naf"
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands
        command = command.commands[name]
    command.make_context(name, list(words))  # an option that is not there, or a wrong value, is an error


def test_commands_are_found():
    assert len(WRITTEN) > 40


# What pages name -----------------------------------------------------------------------------------------------------


@lru_cache
def functions_of(path):
    return set(re.findall(r"^def (\w+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    ("page", "folder"),
    [("exactness.md", "."), ("training.md", "tests/training"), ("evaluation.md", "tests/evaluation")],
)
def test_the_tests_that_a_page_names_are_there(page, folder):
    named = re.findall(r"`((?:[\w/]+/)?test_\w+\.py)(?:::(test_\w+))?`", read(page))
    assert len(named) > 20
    for file, test in named:
        path = ROOT / ("" if file.startswith("tests/") else folder) / file
        assert path.is_file(), file
        assert not test or test in functions_of(path), f"{file}::{test}"


def rows(text):
    """Cells of the rows of all tables."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.MULTILINE)
    ]


def test_figures_of_the_guide_are_those_of_the_pages_that_have_their_commands():
    sources = (ROOT / "README.md").read_text() + read("evaluation.md") + read("performance.md")
    stated = {cell.strip("<u*>/ ") for row in rows(sources) for cell in row} | set(re.findall(r"[\d.,]+", sources))
    figures = 0
    for row in rows(read("choosing.md")):
        for cell in row[1:]:
            if re.fullmatch(r"[\d.,]+( ± [\d.]+)?", cell):
                figures += 1
                assert cell in stated, row
    assert figures > 40
    for time in re.findall(r"([\d,]+) ms", read("choosing.md")):
        assert time in stated


def test_strides_and_channels_of_backbones_are_those_that_timm_declares():
    listed = [row for row in rows(read("backbones.md")) if len(row) == 4 and row[1].isdigit()]
    assert len(listed) > 5
    for names, stride, channels, layers in listed:
        for name in re.findall(r"`([\w.]+)`", names):
            with torch.device("meta"):
                backbone = naf.backbones.create(name, pretrained=False)
            levels = backbone.model.feature_info
            assert (backbone.stride, backbone.channels) == (int(stride), int(channels)), name
            assert layers.startswith(f"0 … {len(levels) - 1}")
            strides = [int(number) for number in re.findall(r"\d+", layers.partition("strides")[2])]
            assert not strides or strides == [level["reduction"] for level in levels]


def test_every_extra_for_users_is_explained():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    explained = {row[0].strip("`") for row in rows(read("getting-started.md"))}
    assert extras - {"docs", "test", "notebooks"} <= explained
    assert extras  # of pyproject.toml


@pytest.mark.parametrize(
    ("kind", "row"),
    [("TimmBackbone", 1), ("HuggingFaceBackbone", 2), ("TorchHubBackbone", 3), ("EmbeddedBackbone", 4), ("Hog", 5)],
)
def test_the_keywords_of_each_kind_of_backbone_are_in_the_table(kind, row):
    parameters = inspect.signature(getattr(naf.backbones, kind)).parameters.values()
    keywords = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
    table = rows(read("backbones.md"))[2:]
    assert keywords == set(re.findall(r"`(\w+)`", table[row - 1][2]))
