"""Configurations of evaluations, as Hydra composes them."""

import re

import pytest

from naf.evaluation import config
from naf.evaluation.protocol import ProbeProtocol, deviations, protocol_from

PLAIN = ["dataset.root=/data", "backbone=hog", "upsampler=naf"]


def load(*changes, task="segmentation", dataset="voc"):
    return config.load(task, [f"dataset={dataset}", *PLAIN, *changes])


def probe(values):
    return protocol_from(ProbeProtocol, values["protocol"])


def found_deviations(values):
    return deviations(probe(values).settings(), values["plain_protocol"])


@pytest.mark.parametrize(
    ("dataset", "epochs", "lr"),
    [("voc", 20, 5e-4), ("coco27", 5, 5e-4), ("ade20k", 20, 5e-4), ("cityscapes", 20, 1e-4), ("camvid", 20, 5e-4)],
)
def test_the_paper_sets_length_and_rate_by_data_set_and_the_released_code_does_not(dataset, epochs, lr):
    paper, released = load(dataset=dataset), load("protocol=released", dataset=dataset)
    assert (probe(paper).epochs, probe(paper).lr) == (epochs, lr)
    assert (probe(released).epochs, probe(released).lr) == (20, 5e-4)
    assert found_deviations(paper) == found_deviations(released) == {}


def test_what_the_papers_text_says_is_the_default():
    assert probe(load()) == ProbeProtocol()
    assert load()["seeds"] == [0, 1, 2]


def test_the_released_code_crops_and_has_one_order():
    paper, released = probe(load()).settings(), probe(load("protocol=released")).settings()
    assert deviations(released, paper) == {"geometry": "crop", "shared_order": True}
    assert probe(load("protocol=released")).name == "released"


def test_what_is_changed_is_a_deviation():
    values = load("protocol.lr=1e-3", "dataset.paper_epochs=3")
    assert found_deviations(values) == {"lr": 1e-3, "epochs": 3}
    assert found_deviations(load("protocol=sampled")) == {}
    assert found_deviations(load("protocol=sampled", "protocol.pixels=64")) == {"pixels": 64}


def test_the_studies_change_one_thing():
    filtered, ratio = load(task="filter"), load(task="ratio", dataset="cityscapes")
    assert probe(filtered) == ProbeProtocol(upsample="filter")
    assert found_deviations(filtered) == found_deviations(ratio) == {}
    assert probe(load("protocol=released", task="filter")).upsample == "filter"
    assert ratio["sizes"] == [224, 448, 896]
    assert load("sizes=64", task="ratio")["sizes"] == [64]
    assert {values["task"]: values["folder"] for values in (filtered, ratio)} == {
        "filter": "out/eval/filter",
        "ratio": "out/eval/ratio",
    }


@pytest.mark.parametrize("key", ["backbone", "upsampler"])
def test_lists_are_written_with_commas(key):
    assert load(f"{key}=hog,naf")[key] == load(f"{key}=[hog,naf]")[key] == ["hog", "naf"]
    assert load(f"{key}=hog")[key] == ["hog"]


def test_weights_of_upsamplers_may_name_the_backbone():
    words = ["naf", "naf=none", "own=naf=out/{backbone}.safetensors"]
    assert load(f"upsampler={','.join(words)}")["upsampler"] == words
    assert load("upsampler={name: naf, dim: 16}")["upsampler"] == {"name": "naf", "dim": 16}


def test_a_folder_of_ones_own_adds_data_sets(tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/streets.yaml").write_text(
        "defaults: [camvid]\nroot: /streets\ntrain: train\npaper_epochs: 7\n", encoding="utf-8"
    )
    values = config.load("segmentation", ["dataset=streets", "backbone=hog", "upsampler=naf"], tmp_path)
    assert (values["dataset"]["key"], values["dataset"]["root"]) == ("camvid", "/streets")
    assert probe(values).epochs == 7
    assert found_deviations(values) == {}


@pytest.mark.parametrize("given", ["[hog, embedded]", "{a: hog, b: embedded}", "hog"])
@pytest.mark.parametrize(
    ("word", "expected"), [("hog,auto", ["hog", "auto"]), ("auto", ["auto"]), ("{c: hog}", {"c": "hog"})]
)
def test_what_a_file_lists_is_replaced(tmp_path, given, word, expected):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\nbackbone: {given}\n", encoding="utf-8")
    words = ["dataset=voc", "dataset.root=/data", "upsampler=naf", "experiment=mine", f"backbone={word}"]
    assert config.load("segmentation", words, tmp_path)["backbone"] == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["upsamplr=naf"], "key 'upsamplr' is unknown, did you mean upsampler"),
        (["limit.foo=1"], "key 'limit.foo' is unknown"),
        (["protocol.epocs=3"], "key 'protocol.epocs' is unknown, did you mean protocol.epochs"),
        (["dataset.rot=/x"], "key 'dataset.rot' is unknown, did you mean dataset.root"),
        (["protocol=papr"], "protocol=papr is unknown, did you mean paper?"),
        (["dataset=camvit"], "dataset=camvit is unknown, did you mean camvid?"),
        (["protocol=paper,released"], "protocol=paper,released: protocol takes one value; several are taken by"),
        (["protocol.lr=1,2"], "protocol.lr takes one value; several are taken by backbone, upsampler, seeds, sizes"),
        (["workers=two"], "workers: Value 'two' of type 'str' could not be converted to Integer"),
        (["workers=-1"], "workers is -1, expected at least 0"),
        (["sanity=maybe"], "sanity: Value 'maybe' is not a valid bool"),
        (["head=foo"], "head is 'foo', expected linear or dense"),
        (["limit.val=0"], "limit.val is 0, expected a whole number from 1 up, or null"),
        (["limit.val=few"], "limit.val is 'few', expected a whole number"),
        (["seeds=0,1,0"], "seeds is [0, 1, 0], expected each once"),
        (["seeds=-1"], "seeds is [-1], expected whole numbers from 0 up"),
        (["seeds=one"], "seeds is ['one'], expected whole numbers"),
        (["seeds=[]"], "seeds is [], expected whole numbers"),
        (["seeds=true"], "seeds is [True], expected whole numbers"),
        (["task=depth"], "task is 'depth', expected segmentation"),
        (["sizes=224"], "sizes is [224], expected none: the sizes are of the ratio study"),
        (["upsampler=naf,"], "upsampler=[naf,] cannot be read"),
    ],
)
def test_errors_are_one_line_that_says_what_to_write(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(*changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "dataset is missing, expected dataset=NAME. Known: ade20k, camvid"),
        (["dataset=voc", *PLAIN[1:]], "dataset.root is missing, expected dataset.root="),
        (["dataset=voc", "dataset.root=x", "upsampler=naf"], "backbone is missing, expected backbone="),
        (["dataset=voc", "dataset.root=x", "backbone=hog"], "upsampler is missing, expected upsampler="),
    ],
)
def test_what_nobody_gave_is_named(words, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        config.load("segmentation", words)
    assert "\n" not in str(caught.value)
