"""Upsamplers and backbones whose held-out loss is computed."""

import sys

import pytest
import torch
from safetensors.torch import save_file

import naf
from experiments import held_out_loss
from naf.evaluation.candidates import Candidate
from tests.helpers import Tiny


def test_backbones_are_those_of_the_evaluation_with_files_in_the_given_folder(tmp_path):
    found = held_out_loss.backbones_in(folder := tmp_path / "it's here, too")
    assert list(found) == ["squeezenet", "mobilenet", "deeplab", "embedded", "hog"]
    assert found["deeplab"]["weights"] == f"{folder}/weights/deeplab_mnetedgetpu_cityscapes.safetensors"


def test_files_for_features_of_another_width_are_passed_over_and_other_faults_are_not(tmp_path):
    other = naf.create("jafar", None, input_dim=Tiny().channels + 1, qk_dim=16)
    save_file(other.state_dict(), path := tmp_path / "other.safetensors")
    options = {"qk_dim": 16}
    assert held_out_loss.make_upsampler(Candidate("own", "jafar", str(path), options), Tiny(), "tiny") is None
    assert held_out_loss.make_upsampler(Candidate("own", "jafar", "none", options), Tiny(), "tiny") is not None
    save_file({"weight": torch.zeros(1)}, wrong := tmp_path / "wrong.safetensors")
    with pytest.raises(naf.WeightsError):
        held_out_loss.make_upsampler(Candidate("own", "naf", str(wrong)), Tiny(), "tiny")
    with pytest.raises(naf.WeightsError):
        held_out_loss.make_upsampler(Candidate("own", "jafar", str(tmp_path / "missing.safetensors")), Tiny(), "tiny")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["bilinar"], "did you mean 'bilinear'"),
        (["naf", "naf"], "each of a label of its own"),
        (["naf", "--backbones", "hog", "dino"], "--backbones is dino, expected some of squeezenet, mobilenet"),
    ],
)
def test_unknown_names_are_told_before_the_work(tmp_path, monkeypatch, capsys, given, message):
    monkeypatch.setattr(sys, "argv", ["held_out_loss.py", "--data", str(tmp_path), *given])
    with pytest.raises(SystemExit) as stop:
        held_out_loss.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
