"""Records read back from a folder."""

import json

import pytest

from naf.evaluation.report import ReportError, read_records

from .runs import run, write


def test_what_was_written_is_read_also_below(tmp_path):
    records = [run(seed=0), run("video", seed=None, variant="grid 28", details={"class_iou": {"sky": 90.0}})]
    write(tmp_path, records[0])
    write(tmp_path / "more", records[1])
    assert read_records(tmp_path) == records


def test_other_json_is_passed_over(tmp_path):
    write(tmp_path, run())
    (tmp_path / "index.json").write_text("[1, 2]")
    (tmp_path / "state.json").write_text('{"step": 3}')
    assert len(read_records(tmp_path)) == 1


def test_damaged_files_are_named_all(tmp_path):
    write(tmp_path, run())
    whole = run().as_dict()
    (tmp_path / "cut.json").write_text(json.dumps(whole)[:99])
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    (tmp_path / "less.json").write_text(json.dumps({key: value for key, value in whole.items() if key != "task"}))
    (tmp_path / "nan.json").write_text(json.dumps(whole | {"metrics": {"miou": float("nan")}}))
    (tmp_path / "none.json").write_text(json.dumps(whole | {"metrics": {}}))
    with pytest.raises(ReportError) as caught:
        read_records(tmp_path)
    for name in ("cut", "binary", "less", "nan", "none"):
        assert f"{name}.json (" in str(caught.value)
    assert "0.json" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_folder(tmp_path):
    with pytest.raises(ReportError, match="nowhere is no folder"):
        read_records(tmp_path / "nowhere")
