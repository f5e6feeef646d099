"""The page in a real browser, as a user goes through it; screenshots go to the folder that NAF_SCREENSHOTS names."""

import re

import pytest
from PIL import Image
from safetensors import safe_open

pytest.importorskip("gradio", reason="the web application needs gradio: pip install 'naf-upsampler[app]'")

from naf.data.samples import SAMPLES
from tests.app.browser import browser, opened, screenshot
from tests.app.server import running

VIEWS = ("Features", "Similarity", "Attention", "Segments", "Compare", "Download")


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def address(chromium):
    with running("--max-megapixels", "1") as app:
        yield app.address
        log = app.log.read_text()
    assert log == ""


@pytest.fixture
def page(chromium, address):
    with opened(chromium, address) as started:
        yield started


def take_sample(page, number=0):
    """Click a sample and wait for its features."""
    page.locator("#naf-samples button").nth(number).click()
    page.wait_for_selector(".naf-facts")
    until_loaded(page, "#naf-slider")


def until_loaded(page, selector, count=1):
    """Wait until the pictures of an element are there."""
    page.wait_for_function(
        "([selector, count]) => { const all = [...document.querySelectorAll(selector + ' img')];"
        " return all.length >= count && all.every(each => each.complete && each.naturalWidth > 0) }",
        arg=[selector, count],
    )


def until_says(page, selector, text):
    page.wait_for_function(
        "([selector, text]) => (document.querySelector(selector)?.innerText ?? '').includes(text)",
        arg=[selector, text],
    )


def open_view(page, name):
    page.get_by_role("tab", name=name).last.click()


def sources(page, selector):
    return page.locator(f"{selector} img").evaluate_all("all => all.map(each => each.src)")


def natural_size(page, selector):
    return tuple(page.locator(f"{selector} img").first.evaluate("each => [each.naturalWidth, each.naturalHeight]"))


def click_at(page, selector, x, y):
    """Click a picture at shares of its width and height."""
    box = page.locator(f"{selector} img").bounding_box()
    page.locator(f"{selector} img").click(position={"x": x * box["width"], "y": y * box["height"]})


def chosen_pixel(page):
    """(x, y) that the similarity view names."""
    text = page.locator("#naf-similarity-note").inner_text()
    return tuple(map(int, re.search(r"pixel \((\d+), (\d+)\)", text).groups()))


def choose(page, selector, name):
    """Take an entry of a list."""
    page.locator(f"{selector} input").click()
    page.get_by_role("option", name=name, exact=True).click()


def upload(page, path):
    page.set_input_files("#naf-photo input[type=file]", path)


def test_an_empty_page_says_what_to_do(page):
    assert "NAF" in page.title()
    until_loaded(page, "#naf-samples", len(SAMPLES))
    assert page.locator("#naf-samples img").count() == len(SAMPLES)
    assert "Drop a photo here" in page.locator("#naf-photo").inner_text()
    for name in VIEWS:
        open_view(page, name)
        assert page.locator(f"#naf-{name.lower()}-empty h2").is_visible()
        assert not page.locator(f"#naf-{name.lower()}").is_visible()
    open_view(page, "Features")
    page.locator(".naf-credits summary").click()
    assert all(each.credit in page.locator(".naf-credits").inner_text() for each in SAMPLES)
    page.locator(".naf-credits summary").click()
    assert page.locator("#naf-cancel").is_disabled()
    screenshot(page, "1-empty")
    page.locator("#naf-upsampler input").click()
    names = page.get_by_role("option").all_inner_texts()
    assert any("jafar (untrained)" in name for name in names)
    assert not any("naf+ (untrained)" in name for name in names)


def test_a_sample_is_upsampled_at_once(page):
    take_sample(page)
    coarse, sharp = sources(page, "#naf-slider")
    assert coarse != sharp
    assert max(natural_size(page, "#naf-slider")) == 448
    said = page.locator(".naf-facts").inner_text()
    assert "embedded" in said
    assert "28 × 28 cells" in said
    assert "448 × 448 pixels" in said
    screenshot(page, "2-features")


def test_a_photo_is_upsampled_at_once_the_right_way_up(page, tmp_path):
    with Image.open(SAMPLES[2].path) as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90°
        image.resize((300, 200)).save(tmp_path / "my photo <b>.jpg", exif=exif)
    upload(page, tmp_path / "my photo <b>.jpg")
    page.wait_for_selector(".naf-facts")
    until_loaded(page, "#naf-slider", 2)
    assert natural_size(page, "#naf-slider") == (299, 448)
    until_loaded(page, "#naf-photo")
    click_at(page, "#naf-photo", 0.25, 0.75)
    until_loaded(page, "#naf-similarity-sharp")
    x, y = chosen_pixel(page)
    assert x == pytest.approx(0.25 * 299, abs=4)
    assert y == pytest.approx(0.75 * 448, abs=4)
    page.get_by_label("Remove Image").click()
    until_says(page, "#naf-state", "No photo yet")
    until_says(page, "#naf-similarity-empty", "click any pixel")


def test_a_photo_that_browsers_cannot_show_is_shown(page, tmp_path):
    with Image.open(SAMPLES[1].path) as image:
        image.save(tmp_path / "cat.tif")
    upload(page, tmp_path / "cat.tif")
    page.wait_for_selector(".naf-facts")
    until_loaded(page, "#naf-photo")
    click_at(page, "#naf-photo", 0.5, 0.25)
    until_loaded(page, "#naf-similarity-sharp")
    assert chosen_pixel(page)[0] == pytest.approx(224, abs=4)


def test_a_click_on_the_photo_asks_what_is_alike(page):
    take_sample(page)
    click_at(page, "#naf-photo", 0.5, 0.3)
    for each in ("coarse", "sharp"):
        until_loaded(page, f"#naf-similarity-{each}")
        assert natural_size(page, f"#naf-similarity-{each}") == (448, 448)
    assert page.get_by_role("tab", name="Similarity").last.get_attribute("aria-selected") == "true"
    first, before = chosen_pixel(page), sources(page, "#naf-similarity-sharp")
    assert first[0] == pytest.approx(224, abs=4)
    click_at(page, "#naf-similarity-sharp", 0.75, 0.5)
    page.wait_for_function("old => document.querySelector('#naf-similarity-sharp img').src !== old", arg=before[0])
    until_loaded(page, "#naf-similarity-sharp")
    assert chosen_pixel(page) == (pytest.approx(336, abs=2), pytest.approx(224, abs=2))
    screenshot(page, "3-similarity")


def test_attention_is_that_of_the_chosen_pixel(page):
    take_sample(page)
    click_at(page, "#naf-photo", 0.5, 0.3)
    until_loaded(page, "#naf-similarity-sharp")
    x, y = chosen_pixel(page)
    open_view(page, "Attention")
    until_loaded(page, "#naf-attention-photo")
    until_says(page, "#naf-attention-note", f"({x}, {y}): 9 × 9 cells")
    screenshot(page, "4-attention")
    page.locator("#naf-kernel label", has_text="5").first.click()
    until_says(page, "#naf-attention-note", "5 × 5 cells")
    click_at(page, "#naf-attention-photo", 0.1, 0.1)
    page.wait_for_function(
        "old => !document.querySelector('#naf-attention-note').innerText.includes(old)", arg=f"({x}, {y})"
    )
    until_says(page, "#naf-attention-note", "5 × 5 cells")
    open_view(page, "Similarity")
    page.wait_for_function(
        "old => !document.querySelector('#naf-similarity-note').innerText.includes(old)", arg=f"({x}, {y})"
    )
    assert chosen_pixel(page)[0] == pytest.approx(45, abs=2)


def test_attention_has_heads_or_says_that_there_is_none(page):
    take_sample(page)
    choose(page, "#naf-upsampler", "naf")
    until_says(page, ".naf-facts", "naf 448")
    open_view(page, "Attention")
    until_loaded(page, "#naf-attention-photo")
    mean = page.locator("#naf-attention-note").inner_text()
    choose(page, "#naf-head", "2")
    page.wait_for_function("old => document.querySelector('#naf-attention-note').innerText !== old", arg=mean)
    assert "head" in page.locator("#naf-attention-note").inner_text()
    choose(page, "#naf-upsampler", "large-image")
    until_says(page, "#naf-attention-empty", "large-image")
    until_says(page, "#naf-attention-empty", "no attention")


def test_segments_follow_k(page):
    take_sample(page)
    open_view(page, "Segments")
    until_says(page, "#naf-segments-note", "6 groups")
    until_loaded(page, "#naf-segments-sharp")
    screenshot(page, "5-segments")
    before = sources(page, "#naf-segments-sharp")
    number = page.locator("#naf-clusters input[type=number]")
    number.fill("3")
    number.press("Enter")
    until_says(page, "#naf-segments-note", "3 groups")
    assert sources(page, "#naf-segments-sharp") != before


def test_methods_are_compared_with_time_and_memory(page):
    take_sample(page)
    open_view(page, "Compare")
    until_loaded(page, ".naf-tiles", 6)
    captions = page.locator(".naf-tiles figcaption").all_inner_texts()
    assert [text.split()[0] for text in captions] == ["photo", "coarse", "bilinear", "jbf", "naf", "naf+"]
    assert all("time" in text and "MiB" in text for text in captions[2:])
    screenshot(page, "6-compare")
    for _ in range(2):
        page.locator("#naf-methods button[aria-label*=Remove], #naf-methods .token-remove").first.click()
    page.locator("#naf-run-compare").click()
    page.wait_for_function("() => document.querySelectorAll('.naf-tiles figure').length === 4")
    assert page.locator(".naf-tiles figcaption strong").all_inner_texts()[2:] == ["naf", "naf+"]


def test_results_can_be_downloaded(page, tmp_path):
    page.locator("#naf-output label", has_text="224").click()
    take_sample(page, 1)
    open_view(page, "Download")
    files = {}
    for what in ("picture", "features", "sheet", "report"):
        with page.expect_download() as coming:
            page.locator(f"#naf-save-{what}").click()
        files[what] = tmp_path / coming.value.suggested_filename
        coming.value.save_as(files[what])
        until_says(page, "#naf-receipt", files[what].name)
    screenshot(page, "7-download")
    assert all("chelsea" in path.name for path in files.values())
    for what in ("picture", "sheet"):
        with Image.open(files[what]) as image:
            assert image.format == "PNG"
    with safe_open(files["features"], "pt") as file:
        assert file.get_tensor("features").shape[1:] == (149, 224)
        assert file.metadata()
    report = files["report"].read_text()
    assert "naf+" in report
    assert not re.search(r"""(src|href)=["']https?:""", report)


def test_settings_are_taken_up_and_a_wrong_one_changes_nothing(page):
    take_sample(page)
    page.locator("#naf-output label", has_text="224").click()
    until_says(page, ".naf-facts", "224 × 224 pixels")
    backbone = page.locator("#naf-backbone input")
    backbone.fill("hog")
    backbone.press("Enter")
    until_says(page, ".naf-facts", "hog")
    until_loaded(page, "#naf-slider", 2)
    before = sources(page, "#naf-slider")
    backbone.fill("no_such_<b>net</b>")
    backbone.press("Enter")
    until_says(page, "#naf-state", "no_such_<b>net</b>")
    assert sources(page, "#naf-slider") == before


def test_what_cannot_be_opened_is_told_in_one_line(page, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(SAMPLES[3].path.read_bytes()[:5000])
    (tmp_path / "notes.png").write_text("no photo")
    Image.new("L", (2000, 1000)).save(tmp_path / "huge.png")
    with (tmp_path / "fat.png").open("wb") as file:
        file.truncate(201 << 20)
    for name, reason in {
        "broken.jpg": "damaged",
        "notes.png": "this is no photo",
        "huge.png": "2000 x 1000 are 2 million pixels, expected at most 1 million",
    }.items():
        upload(page, tmp_path / name)
        until_says(page, "#naf-state", f"{name}: {reason}")
        until_says(page, ".toast-body", f"{name}: {reason}")
        screenshot(page, f"8-{name}")
        until_says(page, "#naf-photo", "Drop a photo here")
    upload(page, tmp_path / "fat.png")
    until_says(page, ".toast-body", "fat.png")
    assert "maximum allowed size" in page.locator(".toast-body").first.inner_text()
    body = page.locator("body").inner_text()
    assert "Traceback" not in body
    assert "naf-app-" not in body  # where it lies is no one's business
    take_sample(page)


def test_work_can_be_cancelled_and_begun_again(page):
    page.locator("#naf-output label", has_text="896").click()
    page.locator("#naf-samples button").nth(3).click()
    page.wait_for_selector("#naf-state .progress-bar")
    screenshot(page, "9-progress")
    page.locator("#naf-cancel").click()
    until_says(page, "#naf-state", "Cancelled")
    until_says(page, "#naf-features-empty", "starts again")
    assert page.locator(".naf-facts").count() == 0
    assert page.locator("#naf-cancel").is_disabled()
    page.locator("#naf-output label", has_text="224").click()
    until_says(page, ".naf-facts", "224")


def test_a_new_photo_ends_the_work_on_the_one_before(page):
    page.locator("#naf-output label", has_text="896").click()
    page.locator("#naf-samples button").nth(3).click()
    page.wait_for_selector("#naf-state .progress-bar")
    page.locator("#naf-output label", has_text="224").click()
    page.locator("#naf-samples button").nth(0).click()
    until_says(page, ".naf-facts", "224 × 224 pixels")
    until_loaded(page, "#naf-slider", 2)
    page.wait_for_selector("#naf-cancel[disabled]")
    assert "astronaut" in sources(page, "#naf-photo")[0]
    assert natural_size(page, "#naf-slider") == (224, 224)


def test_two_pages_do_not_disturb_each_other(chromium, address, page):
    take_sample(page)
    click_at(page, "#naf-photo", 0.5, 0.3)
    until_loaded(page, "#naf-similarity-sharp")
    with opened(chromium, address) as other:
        assert other.locator(".naf-status").inner_text() == "No photo yet."
        take_sample(other, 1)
    open_view(page, "Segments")
    until_loaded(page, "#naf-segments-sharp")
    assert natural_size(page, "#naf-segments-sharp") == (448, 448)


def test_the_list_of_calls_for_programs_opens(page):
    page.get_by_role("button", name="Use via API").click()
    page.wait_for_function("() => document.body.innerText.includes('/upsample')")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_the_page_fits_narrow_and_wide_screens_light_and_dark(chromium, address, width, scheme):
    with opened(chromium, address, width=width, scheme=scheme) as page:
        take_sample(page)
        for name in VIEWS:
            open_view(page, name)
            page.locator(f"#naf-{name.lower()}.naf-body").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        open_view(page, "Features")
        until_loaded(page, "#naf-slider", 2)
        screenshot(page, f"10-{scheme}-{width}")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 384) == (scheme == "dark")
