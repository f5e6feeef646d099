"""Records of runs and their files."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from naf.evaluation.record import FORMAT, EvaluationRecord, read_record
from naf.evaluation.results import Results, Run
from tests.evaluation.runs import run as made_up


def decided(**changes):
    about = {"backbone": "embedded", "upsampler": "naf", "seed": 0, "variant": "", "decisive": {"lr": 0.1}}
    return Run(**{**about, **changes})


def test_a_record_comes_back_from_its_file(tmp_path):
    record = replace(made_up(), note="zu wenige Bilder: ≤ 10", details={"class_iou": {"Sky": None, "Road": 91.25}})
    record.write(tmp_path / "a/b.json")
    assert read_record(tmp_path / "a/b.json") == record
    assert EvaluationRecord.from_dict(record.as_dict()) == record
    assert record.as_dict() == {"format": FORMAT, **asdict(record)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "naf evaluation 0"}, "format is 'naf evaluation 0', expected 'naf evaluation 1'"),
        ({"mius": 1}, "fields mius are unknown"),
        ({"metrics": ...}, "fields are missing"),
    ],
)
def test_what_is_no_record_is_refused_by_name(tmp_path, change, message):
    values = {**made_up().as_dict(), **change}
    path = tmp_path / "run.json"
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path} is no evaluation record: ")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json is no evaluation record"):
        read_record(path)


def test_no_number_is_no_result(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        replace(made_up(), metrics={"miou": float("nan")}).write(tmp_path / "run.json")
    assert not (tmp_path / "run.json").exists()


def test_all_that_decides_a_run_is_in_its_digest():
    runs = [
        decided(),
        decided(seed=1),
        decided(seed=None),
        decided(variant="grid 4"),
        decided(decisive={"lr": 0.2}),
        decided(decisive={"lr": 0.1, "dense": True}),
    ]
    assert len({run.digest for run in runs}) == len(runs)
    assert decided(upsampler="another label").digest == decided().digest
    assert decided(decisive={"b": 1, "a": 2}).digest == decided(decisive={"a": 2, "b": 1}).digest


def test_files_have_names_for_people(tmp_path):
    results = Results(tmp_path, torch.device("cpu"))
    run = decided(backbone="dinov3 B/16", upsampler="naf=out/x y.safetensors", variant="grid 4", seed=2)
    path = results.path(run)
    assert path.parent == tmp_path / "dinov3_B_16"
    assert path.name == f"naf=out_x_y.safetensors-grid_4-seed2-{run.digest}.json"
    assert results.path(decided(seed=None), ".ckpt").name == f"naf-{decided(seed=None).digest}.ckpt"
    assert str(run) == "dinov3 B/16, grid 4, naf=out/x y.safetensors, seed 2"


def test_results_are_found_again_and_say_where_they_were_made(tmp_path):
    results = Results(tmp_path, torch.device("cpu"))
    assert results.find(decided()) is None
    assert not any(tmp_path.iterdir())
    written = results.write(decided(), made_up())
    assert results.find(decided()) == written
    assert results.find(decided(seed=1)) is None
    assert set(written.versions) == {"naf", "torch", "python"}
    assert written.versions["torch"] == torch.__version__
    assert written.machine.endswith(f"{torch.get_num_threads()} threads")
    assert written.finished.endswith("+00:00")
    assert written.command
    results.path(decided()).write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is no evaluation record"):
        results.find(decided())
