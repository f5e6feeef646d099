"""Tables of denoising."""

import re

from naf.evaluation.report import write_report
from naf.evaluation.report_tables import groups

from .runs import run, write
from .test_report import fact, rows

SETTINGS = {"size": None, "crop": None, "batch_size": 1, "autocast": False}


def denoised(restorer, psnr, kind="gaussian", level=0.1, **more):
    word = f"from {level[0]:g} to {level[1]:g}" if isinstance(level, list) else f"{level:g}"
    about = {
        "task": "denoise",
        "dataset": "cbsd68",
        "images": {"test": 68},
        "backbone": "",
        "stride": None,
        "channels": None,
        "variant": f"{kind} {word}",
        "settings": SETTINGS | {"noise": kind, "level": level},
        "metrics": {"psnr": psnr, "ssim": psnr + 50, "psnr_released": psnr - 1, "ssim_released": psnr + 49},
    }
    return run(restorer, **(about | more))


RUNS = [
    denoised(restorer, base - 10 * index, kind, level)
    for kind in ("gaussian", "salt-and-pepper")
    for index, level in enumerate((0.1, 0.15, 0.5, [0.1, 0.5]))
    for restorer, base in (("naf", 48.0), ("noisy", 41.0), ("nl_means", 45.0))
]
COLUMNS = [
    f"{kind} {level}" for kind in ("gaussian", "salt-and-pepper") for level in ("0.1", "0.15", "0.5", "from 0.1 to 0.5")
]


def report(tmp_path, *records):
    write(tmp_path / "records", *records)
    write_report(tmp_path / "records", tmp_path / "out")
    return (tmp_path / "out/report.md").read_text()


def test_rows_are_restorers_and_columns_kinds_and_levels(tmp_path):
    text = report(tmp_path, *RUNS)
    table = rows(text)
    assert table[0] == ["restorer", *COLUMNS, "mean gain over noisy"]
    assert [row[0] for row in table[2:5]] == ["noisy", "nl_means", "naf"]
    assert table[4][1] == "**48.00**"
    assert table[3][1] == "<u>45.00</u>"
    assert table[2][1] == "41.00"
    assert [row[-1] for row in table[2:5]] == ["–", "+4.00", "+7.00"]
    assert "## 1. Denoising, cbsd68, protocol paper" in text
    assert "## 2." not in text
    assert (tmp_path / "out/01-denoise-cbsd68-paper.png").is_file()


def test_both_definitions_have_tables_of_their_own(tmp_path):
    text = report(tmp_path, *RUNS)
    measured = re.findall(r"^\*\*(.*), ↑, measured\*\*\n\n\|.*\n\|.*\n\| noisy +\| +([\d.]+)", text, re.MULTILINE)
    assert measured == [
        ("PSNR (dB)", "41.00"),
        ("SSIM (%)", "91.00"),
        ("PSNR of NAF's repository (dB)", "40.00"),
        ("SSIM of NAF's repository (%)", "90.00"),
    ]


def test_table_8_stands_beside_the_released_definition_only_and_compares_with_nothing(tmp_path):
    text = report(tmp_path, *RUNS)
    captions = re.findall(r"^\*\*(.*published.*)\*\*$", text, re.MULTILINE)
    assert captions == [
        "PSNR of NAF's repository (dB), ↑, published, not comparable",
        "SSIM of NAF's repository (%), ↑, published, not comparable",
    ]
    part = text.split("**PSNR of NAF's repository (dB), ↑, published, not comparable**")[1]
    published = {row[0]: row[1:] for row in rows(part)[:7]}
    assert published["restorer"] == COLUMNS
    assert published["naf"] == ["32.12", "–", "24.52", "27.11", "47.47", "–", "32.91", "39.62"]
    assert list(published)[2:] == ["dncnn", "ircnn", "rednet", "restormer", "naf"]
    table, against = fact(text, "Published")
    assert table.startswith("NAF, arXiv 2511.18452, Table 8 (gaussian 0.1, gaussian 0.5, gaussian from 0.1 to 0.5, ")
    assert "ImageNet, 448 x 448 pixels, one network for each column, trained there for 25,000 steps" in table
    assert against == "not comparable: cbsd68 here, imagenet there, and it is not said which images."


def test_noise_is_averaged_over_seeds_and_other_settings_are_other_tables(tmp_path):
    records = [denoised("naf", 30.0, seed=0), denoised("naf", 32.0, seed=1)]
    (group,) = groups(records)
    assert group.seeds == (0, 1)
    half = denoised("naf", 31.0, settings=SETTINGS | {"noise": "gaussian", "level": 0.1, "autocast": True})
    assert len(groups([*records, half])) == 2
    assert len(groups([*records, denoised("naf", 31.0, protocol="released")])) == 2
    assert len(groups([*records, denoised("naf", 31.0, dataset="kodak24")])) == 2


def test_images_of_table_8_are_unknown_on_imagenet_too(tmp_path):
    text = report(tmp_path, denoised("naf", 30.0, dataset="imagenet"))
    assert "not comparable: it is not said which images of imagenet." in text


def test_a_page_says_how_much_each_restorer_learned_and_who_was_told_the_noise(tmp_path):
    records = [
        denoised("naf", 30.0, details={"parameters": 94848}),
        denoised("noisy", 20.0, details={"parameters": 0}),
        denoised("median", 25.0, details={"parameters": 0, "fitted": {"size": 3}}),
    ]
    text = report(tmp_path, *records)
    assert fact(text, "Learned values") == ["naf 94,848"]
    assert fact(text, "Told the kind and level of the noise") == ["median"]
