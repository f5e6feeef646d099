"""Model cards: front matter that the Hub reads, and all facts in the text."""

import pytest
import yaml
from huggingface_hub import ModelCard as HubCard

import naf
from naf.registry import entry
from naf.training.card import ModelCard, read_card, upsampler_card
from naf.weight_record import WeightRecord


def card(**changes):
    return ModelCard(
        **{
            "title": "A network",
            "summary": "Does this.",
            "usage": "import naf",
            "training": {"data": "ten photos", "losses": "L2 | smooth"},
            "intended_use": "Research.",
            "limits": ["Small.", "Young."],
            "licence": "apache-2.0",
            "tags": ["features", "backbone"],
            **changes,
        }
    )


def test_front_matter_is_yaml_that_the_hub_reads():
    text = card().markdown()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front == {
        "library_name": "naf-upsampler",
        "license": "apache-2.0",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["features", "backbone"],
    }
    parsed = HubCard(text)
    assert parsed.data.to_dict() == front
    assert parsed.text.strip().startswith("# A network")


def test_sections_without_content_are_left_out():
    text = card().markdown()
    assert "## Evaluation" not in text
    assert "## Precision" not in text
    assert "## Limits\n\n- Small.\n- Young.\n" in text


def test_text_that_would_break_a_table_does_not():
    lines = card(training={"losses": "L2 | smooth\nand more"}).markdown().splitlines()
    assert r"| losses | L2 \| smooth and more |" in lines


def test_results_of_any_shape_become_tables():
    evaluation = {
        "probe": {
            "mean_iou": 0.41234,
            "seeds": 3,
            "camvid": {"naf": {"mIoU": 41.25, "acc": 0.5}, "bilinear": {"mIoU": 39}},
        },
        "rows": [{"name": "naf", "loss": 1e-7}, {"name": "nearest", "psnr": None}],
        "words": ["one", 2],
        "value": 3.14159,
    }
    lines = card(evaluation=evaluation).markdown().splitlines()
    for line in (
        "### probe",
        "| mean iou | 0.4123 |",
        "| seeds | 3 |",
        "**camvid**",
        "|  | mIoU | acc |",
        "| naf | 41.25 | 0.5 |",
        "| bilinear | 39 |  |",
        "| name | loss | psnr |",
        "| naf | 1e-07 |  |",
        "| nearest |  | – |",
        "- one",
        "- 2",
        "3.142",
    ):
        assert line in lines


@pytest.mark.parametrize("licence", ["Apache 2.0", "", "a\nb"])
def test_a_licence_that_is_no_identifier_is_refused(licence):
    with pytest.raises(ValueError, match="expected an identifier of the Hub"):
        card(licence=licence)


@pytest.mark.parametrize("name", [name for name in naf.list_upsamplers() if entry(name).needs_weights])
def test_every_learned_upsampler_has_a_card(name):
    config = {"dim": 32} if name == "naf" else {}
    about = {"data": "ten photos", "backbones": "vit_tiny", "licence": "cc-by-nc-4.0", "licence_note": "See there."}
    text = upsampler_card(WeightRecord(name, config, about), {"probe": {"mIoU": 41.3}}, "file.safetensors").markdown()
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "cc-by-nc-4.0"
    assert f'naf.create("{name}", weights="file.safetensors"' in text
    assert "| data | ten photos |" in text
    assert "| backbones | vit_tiny |" in text
    assert "| mIoU | 41.3 |" in text
    assert "Weights: cc-by-nc-4.0. See there." in text
    assert entry(name).paper in text
    assert ("all others are zero-shot" in text) == entry(name).is_vfm_agnostic


def test_a_card_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "card.md").write_bytes(b"\xff\xfe\xff")
    for name in ("card.md", "none.md"):
        with pytest.raises(ValueError, match=rf"card .*{name} cannot be read"):
            read_card(tmp_path / name)
