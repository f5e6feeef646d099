"""Pages of reports on made-up records."""

import re

import pytest
from PIL import Image

from naf.evaluation.report import ReportError, write_report
from naf.evaluation.report_latex import escaped

from .runs import SETTINGS, run, write

CAMVID = [
    *(run("bilinear", 40.0 + seed, seed=seed) for seed in (0, 1, 2)),
    *(run("naf", 44.0 + seed, seed=seed, source="embedded", checkpoint="ab" * 32) for seed in (0, 1, 2)),
    run("any|up_", 42.5, seed=0),
    run("naf", 62.0, seed=0, backbone="mobilenet_v2", checkpoint="ab" * 32, note="one seed only"),
]

MARKDOWN = """\
| upsampler |            embedded | mobilenet_v2 |
|-----------|--------------------:|-------------:|
| bilinear  |        41.00 ± 1.00 |            – |
| any\\|up\\_ | <u>42.50 (n = 1)</u> |            – |
| naf       |    **45.00 ± 1.00** | 62.00 (n = 1) |
"""


def report(tmp_path, *records):
    """Markdown, LaTeX and all files."""
    write(tmp_path / "records", *records)
    files = write_report(tmp_path / "records", tmp_path / "out")
    return (tmp_path / "out/report.md").read_text(), (tmp_path / "out/report.tex").read_text(), files


def rows(text):
    """Cells of all tables' lines, without the padding."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def fact(text, name):
    return re.findall(rf"^- {name}: (.*)$", text, re.MULTILINE)


def test_markdown(tmp_path):
    text, _, _ = report(tmp_path, *CAMVID)
    expected = rows(MARKDOWN)
    assert [row for row in rows(text) if "---" not in row[0]] == [row for row in expected if "---" not in row[0]]
    assert "## 1. Segmentation probe, camvid, protocol paper\n\n**mIoU (%), ↑, measured**" in text
    assert fact(text, "Protocol") == ["paper, without deviations"]
    assert fact(text, "Settings") == ["epochs = 20, image_size = 448, ratio = 16"]
    assert fact(text, "Images") == ["train 130, val 70"]
    assert fact(text, "Weights") == ["naf: embedded, sha256 abababababab and sha256 abababababab"]
    assert fact(text, "Machine") == ["some machine"]
    assert fact(text, "Commit") == ["abc1234"]
    assert fact(text, "Notes") == ["one seed only"]
    assert fact(text, "Time") == ["8 runs, 80 s in all, finished 2026-01-01T00:00:00Z"]
    assert text.count("naf eval segmentation dataset=camvid\n") == 1
    assert "ublished" not in text.split("## 1.")[1]


def test_seeds_are_said_and_those_that_differ(tmp_path):
    text, _, _ = report(tmp_path, *CAMVID)
    (seeds,) = fact(text, "Seeds")
    assert seeds.startswith("0, 1, 2; cells are the mean ± sample standard deviation over these 3; but 0 for ")
    assert "naf with mobilenet_v2" in seeds
    text, _, _ = report(tmp_path / "video", run(seed=None, task="video", metrics={"JF": 60.0}))
    assert fact(text, "Seeds") == ["none (nothing is random)"]


def test_gains(tmp_path):
    text, latex, _ = report(tmp_path, run("bilinear", 40.0), run("nearest", 39.5), run("naf", 43.0))
    assert rows(text)[0][-1] == "mean gain over bilinear"
    assert {row[0]: row[-1] for row in rows(text)[2:]} == {"nearest": "-0.50", "bilinear": "–", "naf": "+3.00"}
    assert r"39.50 & $-$0.50 \\" in latex


def test_latex(tmp_path):
    _, text, _ = report(tmp_path, *CAMVID)
    assert r"upsampler & embedded & mobilenet\_v2 \\" in text
    assert r"bilinear & 41.00 $\pm$ 1.00 & -- \\" in text
    assert r"any\textbar{}up\_ & \underline{42.50 (n = 1)} & -- \\" in text
    assert r"naf & \textbf{45.00 $\pm$ 1.00} & 62.00 (n = 1) \\" in text
    assert r"\includegraphics[width=\linewidth]{01-segmentation-camvid-paper.png}" in text
    for name in ("document", "tabular", "minipage", "center"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") > 0
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 % of a_b & c#d", r"50 \% of a\_b \& c\#d"),
        ("{x} $y ~z ^w \\v", r"\{x\} \$y \textasciitilde{}z \textasciicircum{}w \textbackslash{}v"),
        ("<a|b>", r"\textless{}a\textbar{}b\textgreater{}"),
        ("1 ± 2 × 3 – ↑", r"1 $\pm$ 2 $\times$ 3 -- $\uparrow$"),
        ("--seed\nnaïve ﬁne 猫", r"-{}-seed naïve fine ?"),
    ],
)
def test_latex_escapes(text, expected):
    assert escaped(text) == expected


def test_protocols_have_sections_of_their_own(tmp_path):
    text, _, files = report(
        tmp_path,
        run("naf"),
        run("naf", protocol="released"),
        run("naf", deviations={"epochs": 5}, settings=SETTINGS | {"epochs": 5}),
    )
    assert re.findall(r"^## .*", text, re.MULTILINE) == [
        "## 1. Segmentation probe, camvid, protocol paper",
        "## 2. Segmentation probe, camvid, protocol paper",
        "## 3. Segmentation probe, camvid, protocol released",
    ]
    assert fact(text, "Protocol")[1] == "paper, with deviations: epochs = 5"
    assert len(files) == 5


FULL = {"train": 1464, "val": 1449}
DINO = "vit_base_patch16_dinov3.lvd1689m"


def test_published_figures_stand_beside_ours(tmp_path):
    text, _, _ = report(tmp_path, run("naf", 87.0, dataset="voc", images=FULL, backbone=DINO))
    assert "**mIoU (%), ↑, published**" in text
    assert ["featup", "84.43 / 87.07"] in rows(text)
    said = fact(text, "Published")
    assert [words.split(". ")[0] for words in said] == [f"NAF, arXiv 2511.18452, Table {number}" for number in (2, 3)]


def test_what_speaks_against_a_comparison_is_said(tmp_path):
    text, _, _ = report(
        tmp_path,
        run(
            "naf", dataset="voc", images=FULL | {"train": 130}, backbone=DINO, protocol="released", deviations={"a": 1}
        ),
    )
    assert "**mIoU (%), ↑, published, not comparable**" in text
    assert fact(text, "Published")[2:] == [
        "not comparable: protocol released here, paper there.",
        "not comparable: settings here deviate from the protocol.",
        "not comparable: 130 of 1,464 train images.",
    ]


def test_published_video_figures_stand_beside_the_same_metric_only(tmp_path):
    about = {"task": "video", "dataset": "davis2017", "images": {"sequences": 30, "frames": 1999}, "backbone": DINO}
    text, _, _ = report(tmp_path, run(**about, seed=None, metrics={"JF": 60.0, "JF_repository": 65.0}))
    assert [line for line in text.splitlines() if "published*" in line] == [
        "**J&F with F of NAF's repository (%), ↑, published**"
    ]


@pytest.mark.parametrize("task", ["segmentation", "ratio"])
def test_plots_are_drawn(tmp_path, task):
    grids = [run(name, 40.0 + grid, seed=seed, task=task, variant=f"grid {grid}", dataset="cityscapes",
                 backbone="radio_v2.5-b", images={"train": 2975, "val": 500})
             for name in ("bilinear", "naf") for grid in (14, 28) for seed in (0, 1)]  # fmt: skip
    _, _, files = report(tmp_path, *grids)
    (plot,) = [path for path in files if path.suffix == ".png"]
    with Image.open(plot) as image:
        assert image.width > 400
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10  # more than an empty sheet
    assert sorted(path.name for path in plot.parent.iterdir()) == sorted(path.name for path in files)


def test_a_folder_without_records(tmp_path):
    with pytest.raises(ReportError, match="holds no records of evaluations"):
        write_report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
