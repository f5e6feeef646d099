"""What the open pages look at, and the files made for them."""

import pytest
from PIL import Image

from naf.app.analysis import Settings, WorkbenchError
from naf.app.sessions import Session, Sessions
from naf.app.shelf import Shelf


@pytest.fixture
def sessions():
    return Sessions(Session("naf+", ("bilinear", "naf"), Settings("embedded")))


def test_each_page_has_its_own_state(sessions):
    sessions.of("a").point = (0.1, 0.2)
    sessions.of("a").drawn["features"] = (1,)
    assert sessions.of("a").point == (0.1, 0.2)
    assert sessions.of("b").point == (0.5, 0.5)
    assert sessions.of("b").drawn == {}
    assert sessions.of("b").settings == Settings("embedded")


def test_new_work_ends_the_work_before(sessions):
    session = sessions.of("a")
    first, second = session.begin(), session.begin()
    assert first.is_set()
    assert not second.is_set()
    session.stop()
    assert second.is_set()
    assert not session.begin().is_set()


def test_a_page_that_is_closed_needs_its_work_no_more(sessions):
    flags = {name: sessions.of(name).begin() for name in "abc"}
    sessions.close("a")
    sessions.close("unknown")
    assert [flags[name].is_set() for name in "abc"] == [True, False, False]
    sessions.close_all()
    assert flags["b"].is_set()
    assert sessions.of("b").work is not flags["b"]


def test_pages_not_used_for_longest_are_forgotten(sessions):
    flag = sessions.of("first").begin()
    sessions.of("second").point = (0, 0)
    for number in range(255):
        sessions.of(str(number))
        sessions.of("second")
    assert flag.is_set()
    assert sessions.of("second").point == (0, 0)


def test_a_tab_is_drawn_again_only_where_it_would_show_something_else(sessions):
    session = sessions.of("a")
    tabs = ("features", "similarity", "attention", "segments", "compare")

    def changed(name, value):
        before = {tab: session.key(tab) for tab in tabs}
        setattr(session, name, value)
        return [tab for tab in tabs if session.key(tab) != before[tab]]

    assert changed("point", (0.1, 0.1)) == ["similarity", "attention"]
    assert changed("head", 1) == ["attention"]
    assert changed("kernel_size", 3) == ["attention"]
    assert changed("clusters", 3) == ["segments"]
    assert changed("methods", ("naf",)) == ["compare"]
    assert changed("upsampler", "naf") == ["features", "similarity", "attention", "segments"]
    assert changed("settings", Settings("hog")) == list(tabs)


def test_the_shelf_keeps_the_newest(tmp_path):
    shelf, picture = Shelf(tmp_path, pictures=2, downloads=1), Image.new("RGB", (3, 2), "red")
    paths = [shelf.put(picture, "coarse") for _ in range(3)]
    assert len(set(paths)) == 3
    assert not [path for path in tmp_path.rglob("coarse.png") if str(path) == paths[0]]
    with Image.open(paths[2]) as opened:
        assert opened.size == (3, 2)
        assert opened.getpixel((0, 0)) == (255, 0, 0)
    first, second = shelf.room(), shelf.room()
    assert not first.exists()
    assert list(second.iterdir()) == []
    assert sum(1 for _ in tmp_path.rglob("coarse.png")) == 2


def test_only_what_was_uploaded_is_taken(tmp_path):
    shelf, secret = Shelf(tmp_path / "own"), tmp_path / "secret"
    photo = tmp_path / "own" / "photo.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"1")
    secret.write_bytes(b"2")
    (photo.parent / "link").symlink_to(secret)
    assert shelf.uploaded({"path": str(photo)}) == photo
    others = (
        secret,
        photo.parent,
        photo.parent / "link",
        photo.parent / ".." / "secret",
        photo.parent / "none",
        "",
        "\0",
    )
    for payload in (*({"path": str(path)} for path in others), {"path": None}, {"path": 1}, {}, None, str(photo)):
        with pytest.raises(WorkbenchError, match="no uploaded file"):
            shelf.uploaded(payload)


def test_a_page_without_a_photo_says_so(sessions):
    with pytest.raises(WorkbenchError, match="drop one"):
        _ = sessions.of("a").opened


def test_a_choice_that_was_overtaken_is_not_taken_up(sessions):
    session = sessions.of("a")
    assert session.choose(2.0, point=(0.2, 0.2))
    assert not session.choose(1.0, point=(0.1, 0.1))
    assert session.point == (0.2, 0.2)
    assert session.choose(3.0, point=(0.3, 0.3))
    assert session.point == (0.3, 0.3)
