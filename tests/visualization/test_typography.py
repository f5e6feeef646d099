"""The font and text that is brought to its room."""

from importlib.resources import files

import pytest

from naf.visualization.typography import clean, fit, font, wrap


@pytest.mark.parametrize("weight", ["Regular", "SemiBold"])
def test_fonts_are_packaged_with_their_licence_and_small(weight):
    folder = files("naf") / "assets" / "fonts"
    assert len((folder / f"Inter-{weight}.ttf").read_bytes()) < 100_000
    assert "SIL OPEN FONT LICENSE" in (folder / "OFL.txt").read_text()
    assert weight in " ".join(font(20, weight).getname())


@pytest.mark.parametrize("weight", ["Regular", "SemiBold"])
def test_fonts_have_the_signs_that_sheets_use(weight):
    face = font(40, weight)
    missing = face.getmask("\U0010fffd").getbbox(), bytes(face.getmask("\U0010fffd"))
    for sign in "×…·−→±µéßΩЖ≈":
        assert (face.getmask(sign).getbbox(), bytes(face.getmask(sign))) != missing, sign


def test_figures_of_the_regular_weight_are_of_even_width():
    assert len({font(32).getlength(digit) for digit in "0123456789"}) == 1
    assert font(32, "SemiBold").getlength("1") < font(32, "SemiBold").getlength("0")


def test_text_is_cut_to_its_room_and_no_more():
    face, text = font(20), "a fairly long headline of many words"
    for width in (1, 10, 50, 120, 200, 1000):
        cut = fit(text, face, width)
        assert face.getlength(cut) <= width
        if cut != text and cut:
            assert cut.endswith("…")
            kept = cut.removesuffix("…")
            assert text.startswith(kept)
            longer = text[: len(kept) + 1] if text[len(kept)] != " " else text[: len(kept) + 2]
            assert face.getlength(longer + "…") > width
    assert fit(text, face, 1000) == text
    assert fit("", face, 10) == ""


def test_lines_break_at_spaces_and_the_last_is_cut():
    face, text = font(20), "one two three four five six seven eight nine ten"
    lines = wrap(text, face, 120, 2)
    assert len(lines) == 2
    assert all(face.getlength(line) <= 120 for line in lines)
    assert lines[1].endswith("…")
    assert text.startswith(" ".join(lines).removesuffix("…"))
    assert " ".join(wrap(text, face, 120, 20)) == text
    assert wrap(text, face, 10_000, 2) == [text]
    assert wrap("", face, 100, 2) == []


def test_text_becomes_one_drawable_line():
    assert clean(" two\n lines\tof  text ") == "two lines of text"
    assert clean("bad\udcff") == "bad?"
