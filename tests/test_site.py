"""The documentation site as `make docs` builds it: no warning, no other host, no dead link, nothing left out."""

import importlib
import os
import re
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml
from typer.testing import CliRunner

import naf
from naf.cli import app
from naf.registry import entry
from tests.app.browser import browser

ROOT = Path(__file__).parents[1]
for name in ("mkdocs", "material", "mkdocstrings_handlers.python"):
    pytest.importorskip(name, reason="the site needs the extra test")

# Attributes that a browser fetches by itself, by element; links are followed by people.
FETCHED = {
    **dict.fromkeys(("img", "script", "iframe", "source", "video", "audio", "embed", "input"), ("src", "srcset")),
    "link": ("href", "imagesrcset"),
    "object": ("data",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
NO_REQUEST = {"canonical", "next", "prev", "alternate"}  # kinds of <link> that name a page


class Page(HTMLParser):
    """What a built page fetches, links to, and can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.path, self.fetched, self.links, self.ids, self.text = path, [], [], set(), []
        self.styles = ""
        self._inside = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if given.get("id"):
            self.ids.add(given["id"])
        if tag == "a" and given.get("name"):
            self.ids.add(given["name"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag != "link" or not NO_REQUEST & set((given.get("rel") or "").split()):
            self.fetched += [given[key] for key in FETCHED.get(tag, ()) if given.get(key)]
        self.styles += given.get("style") or ""
        self._inside = tag

    def handle_data(self, data):
        if self._inside == "style":
            self.styles += data
        elif self._inside != "script":
            self.text.append(data)

    def handle_endtag(self, tag):
        self._inside = ""


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, result


@pytest.fixture(scope="module")
def site(build):
    folder, result = build
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


def test_the_site_builds_without_a_warning(build):
    _, result = build
    assert result.returncode == 0, result.stderr
    lines = (result.stdout + result.stderr).splitlines()
    assert [line for line in lines if line.strip() and not line.startswith("INFO ")] == []


def navigation(part):
    if isinstance(part, str):
        yield part
    else:
        for each in part.values() if isinstance(part, dict) else part:
            yield from navigation(each)


def test_every_page_of_the_navigation_is_there_and_says_something(pages):
    named = list(navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert len(set(named)) == len(named) > 15
    for name in named:
        page = pages[Path(name).with_suffix(".html").as_posix()]
        assert len(" ".join(page.text).split()) > 150, name


def test_nothing_is_fetched_from_another_host(site, pages):
    for name, page in pages.items():
        assert page.fetched, name
        for address in page.fetched:
            for each in address.split(","):
                assert not urlsplit(each.strip()).netloc, (name, each)
        check_style(page.styles, name)
    sheets = sorted(site.rglob("*.css"))
    assert sheets
    for path in [*sheets, *site.rglob("*.svg")]:
        check_style(path.read_text(), path.name)


def check_style(text, name):
    assert not re.search(r"@import|url\(\s*['\"]?\s*(?:\w+:)?//", text), name


def test_links_within_the_site_lead_somewhere(site, pages):
    followed = 0
    for name, page in pages.items():
        if name == "404.html":
            continue
        for link in page.links:
            address, anchor = urldefrag(link)
            if urlsplit(address).scheme or urlsplit(address).netloc:
                continue
            target = (page.path.parent / unquote(address)).resolve() if address else page.path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), (name, link)
            if anchor and target.suffix == ".html":
                assert unquote(anchor) in pages[target.relative_to(site).as_posix()].ids | {"__toc", "__drawer"}, (
                    name,
                    link,
                )
            followed += 1
    assert followed > 1000


def test_every_public_name_is_in_the_reference(pages):
    there = set().union(*(page.ids for name, page in pages.items() if name.startswith("api/")))
    modules = ["naf", *(f"naf.{name}" for name in naf.__all__ if isinstance(getattr(naf, name), ModuleType))]
    assert len(modules) > 5
    for module in modules:
        listed = importlib.import_module(module)
        own = [
            name for name, each in vars(listed).items() if getattr(each, "__module__", "") == module and name[0] != "_"
        ]
        names = set(getattr(listed, "__all__", own))
        assert names, module
        if module == "naf.upsamplers":  # classes stand for modules, see below; the rest is that of naf
            names = {name for name in names if not isinstance(getattr(listed, name), ModuleType)} - set(naf.__all__)
        assert {f"{module}.{name}" for name in names} <= there, module


def test_every_method_is_in_the_reference(pages):
    there = pages["api/upsamplers.html"].ids
    for name in naf.list_upsamplers():
        kind = entry(name).cls
        assert f"{kind.__module__}.{kind.__qualname__}" in there, name


def test_sphinx_roles_are_turned_into_links(pages):
    text = {name: "".join(page.text) for name, page in pages.items() if name.startswith("api/")}
    assert not [name for name, each in text.items() if re.search(r":(?:meth|func|class|mod):", each)]
    assert "#naf.Upsampler.forward" in pages["api/index.html"].links


def verbs(command_line, prefix=()):
    for command in command_line.registered_commands:
        yield (*prefix, command.name or command.callback.__name__.replace("_", "-"))
    for group in command_line.registered_groups:
        yield from verbs(group.typer_instance, (*prefix, group.name))


def options_of(shown):
    """What lines of a help text begin with: --output, -o."""
    begun = re.findall(r"^[^\w-]*((?:--?[a-z][\w-]*,?\s+)+)", shown, re.MULTILINE)
    return {option for part in begun for option in re.findall(r"--?[a-z][\w-]*", part)}


def test_every_verb_is_on_the_command_line_page_with_all_its_options(site):
    html = (site / "command-line.html").read_text()
    sections = defaultdict(str)
    for part in html.split("<h3 ")[1:]:
        sections[re.search(r'id="([^"]+)"', part)[1]] = re.sub(r"<[^>]+>", " ", part)
    options = 0
    for verb in verbs(app):
        assert sections["-".join(("naf", *verb))], verb
        shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
        assert shown.exit_code == 0
        for option in options_of(shown.stdout) - {"--help", "-h"}:
            options += 1
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", sections["-".join(("naf", *verb))]), (verb, option)
    assert options > 60


def test_no_marker_is_left(site):
    for path in site.rglob("*.html"):
        assert not re.search(r"<!-- (naf |table:)", path.read_text()), path.name


def test_the_search_works_from_disk_without_a_network(site):
    with browser() as started:
        page = started.new_page()
        asked, faults = [], []
        page.on("request", lambda request: asked.append(urlsplit(request.url).scheme))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto((site / "index.html").as_uri())
        page.locator(".md-search__input").click()
        page.keyboard.type("neighborhood")
        page.locator(".md-search-result__link").first.click()
        page.wait_for_url(re.compile(r"\.html\?h="))
        assert page.locator("h1").count() == 1
    assert asked
    assert set(asked) <= {"file", "data", "blob"}
    assert faults == []
