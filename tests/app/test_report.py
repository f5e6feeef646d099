"""The report: one HTML file that needs no other."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

import naf
from naf.app.workbench import Settings, Workbench
from naf.data.samples import SAMPLES

SETTINGS = Settings("embedded", output_side=64, backbone_side=128)
UPSAMPLERS = ["naf+", "anyup", "bilinear"]
NAME = '</title><script>alert(1)</script><img src=x onerror=alert(1)> & "it\'s" {{ 7 * 7 }}.png'


class Page(HTMLParser):
    """What stands on a page: elements with their attributes, and the text that is seen."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.styles, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style", "title"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        (self.styles if self.open and self.open[-1] != "title" else self.text).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def bench():
    return Workbench(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def photo(bench, tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    with Image.open(SAMPLES[1].path) as whole:
        whole.crop((110, 50, 302, 210)).save(path)
    return replace(bench.open(path), name=NAME)  # `open` would have cut it at the strokes


@pytest.fixture(scope="module")
def file(bench, photo, tmp_path_factory):
    return bench.save_report(photo, SETTINGS, UPSAMPLERS, 25, 40, 4, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def source(file):
    return file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_the_page_asks_for_nothing(source, page):
    for _, attributes in page.elements:
        for key in ("src", "href", "srcset", "poster", "data", "action", "background"):
            assert (attributes.get(key) or "data:").startswith("data:"), attributes
    assert page.all("link") == page.all("iframe") == page.all("object") == []
    assert all(address.startswith('"data:') for address in re.findall(r"url\(([^)]*)", "".join(page.styles)))
    assert "@import" not in source
    outside = re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]+", re.sub(r"base64,[\w+/=]+", "", source))
    assert outside == []
    policy = next(each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_whatever_the_photo_is_called_stays_text(source, page):
    assert len(page.all("script")) == 1
    assert "alert" not in "".join(page.styles)
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert "<script>alert" not in source
    assert page.words.count(NAME) == 3  # title, headline, settings; quoted for the shell besides


def test_the_file_has_a_safe_name_and_nothing_half_written_stays(file):
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert re.fullmatch(r"[A-Za-z0-9+._-]+_embedded_report\.html", file.name)


def test_all_pictures_lie_in_the_page(bench, photo, page):
    pictures = {}
    for each in page.all("img"):
        assert each["alt"]
        if "src" in each:
            kind, data = each["src"].split(";base64,")
            with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
                picture.load()
                assert kind == f"data:image/{picture.format.lower()}"
                pictures[each.get("id", len(pictures))] = picture
    # photo, coarse, three methods; chosen pixel, coarse, three methods, the scale; two of attention; two of segments
    assert len(pictures) == 5 + 6 + 2 + 2
    expected = bench.sharp(photo, SETTINGS, "naf+").picture
    assert pictures["method-0"].convert("RGB").tobytes() == expected.tobytes()
    assert pictures["coarse"].size == expected.size
    assert {f"method-{index}" for index in range(3)} | {"photo", "coarse"} <= pictures.keys()


def test_the_page_says_what_was_done(bench, photo, page):
    words = page.words
    found = bench.compare(photo, SETTINGS, UPSAMPLERS)
    for method in found.methods:
        assert method.title in words
        for figure in method.figures.split(", "):
            assert figure in words
        assert method.weights in words
    assert "anyup (untrained)" in words
    for text in (
        "licence: apache-2.0",
        "arXiv 2511.18452",
        photo.key,
        "embedded, weights carried by the package",
        "7 × 8 cells, 384 channels",
        "53 × 64 (longer side 64)",
        "the photo at 53 × 64 pixels",
        "(40, 25)",
        "4 segments",
        f"torch {torch.__version__}",
        f"naf {naf.__version__}",
        bench.attention(photo, SETTINGS, "naf+", 25, 40).caption,
    ):
        assert text in words, text
    low = bench.similarity(photo, SETTINGS, "naf+", 25, 40).high
    assert f"{low:.2f}" in words or "1.00" in words


def test_the_command_line_gives_the_comparison_again(page):
    assert "--upsamplers naf+,anyup,bilinear --backbone embedded --max-side 128 --size 53x64" in page.words
    assert "full size, so their results differ a little" in page.words


def test_light_and_dark_have_colours_of_their_own(page):
    style = "".join(page.styles)
    dark = style.partition("@media (prefers-color-scheme: dark)")[2].partition("}")[0]
    names = set(re.findall(r"var\((--[\w-]+)\)", style)) - {"--at", "--aspect"}
    assert names
    for name in names:
        assert f"{name}: #" in dark
        assert style.count(f"{name}: #") == 2


def test_all_similarities_have_one_scale(bench, photo, page):
    assert len([each for each in page.all("img") if each["alt"].startswith("Similarity on")]) == 4
    assert len([each for each in page.all("div") if each.get("class") == "scale"]) == 1


def test_parts_that_were_not_asked_for_are_left_out(bench, photo, tmp_path):
    words = Page(bench.save_report(photo, SETTINGS, ["large-image"], None, None, None, tmp_path).read_text()).words
    assert "Time and memory" in words
    for heading in ("What is like this pixel", "Where it takes its features from", "segments", "Chosen pixel"):
        assert heading not in words
    words = Page(bench.save_report(photo, SETTINGS, ["large-image"], 3, 4, None, tmp_path).read_text()).words
    assert "What is like this pixel" in words
    assert "Where it takes its features from" not in words  # there are no weights


def test_what_did_not_run_is_told(bench, photo, tmp_path):
    words = Page(bench.save_report(photo, SETTINGS, ["nonsense", "nearest"], 3, 4, 2, tmp_path).read_text()).words
    assert "Did not run: nonsense: there is no such upsampler" in words
    assert "One upsampler brings" in words


def test_another_backbone_than_asked_for_is_told(photo, tmp_path, monkeypatch):
    monkeypatch.setattr("naf.backbones.is_available", lambda name: False)
    bench = Workbench(device=torch.device("cpu"), weights="naf+=none")
    settings = Settings("auto", output_side=64, backbone_side=128)
    words = Page(bench.save_report(photo, settings, ["naf+"], None, None, None, tmp_path).read_text()).words
    assert "embedded (asked for: auto)" in words
    assert "in place of DINOv3 ViT-S/16" in words
    assert "naf+ (untrained)" in words
    assert "--weights naf+=none" in words


def test_a_position_outside_is_refused_before_anything_is_made(bench, photo, tmp_path):
    with pytest.raises(ValueError, match="row is 53, expected an integer from 0 to 52"):
        bench.save_report(photo, SETTINGS, ["naf+"], 53, 0, None, tmp_path)
    assert list(tmp_path.iterdir()) == []
