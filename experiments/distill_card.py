"""The embedded backbone's weight file and its card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from naf.data.atomic import replace_file
from naf.evaluation.report_metrics import metric
from naf.evaluation.report_records import read_records
from naf.evaluation.report_tables import groups, table
from naf.provenance import commit
from naf.training.card import ModelCard

USAGE = """import naf

backbone = naf.backbones.create("embedded")  # stride=8 for finer features
features = backbone(image01)  # RGB, values from 0 to 1"""
TEACHERS = (
    "SqueezeNet 1.0 (ImageNet; songhan/SqueezeNet-Deep-Compression, BSD): fire9, fire8; MobileNetV2 1.0 (ImageNet; "
    "google-coral/test_data, Apache-2.0): b13, b14.expand; DeepLabV3 on MobileNetEdgeTPU-slim (Cityscapes; "
    "google-coral/test_data, Apache-2.0): b21, f"
)
LOSS = (
    "1 - cosine + MSE / 2 between 1x1 heads on the features and each teacher's half-whitened principal components "
    "(128 at most), averaged over 11 pairs: stride 16 predicts the five maps of stride 16; stride 8 predicts fire8, "
    "and averaged over 2 x 2 cells those five"
)
LIMITS = (
    "Learned on some 600 photos from small teachers: expect much less of it than of DINOv2 or DINOv3, which it was not "
    "compared with.",
    "A quarter of its crops are CamVid's training frames, and one teacher knows Cityscapes' streets: the probe's "
    "figures are of the kind of scene it knows best.",
)


def probe_table(folder: Path) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """What the features are worth upsampled bilinearly, from the records of `naf eval segmentation`.

    Args:
        folder: with records of one protocol, on the same images; those of other upsamplers are passed over.

    Returns:
        By a heading that says data set, images and protocol, then by backbone: mean IoU and pixel accuracy, means over
        the seeds in per cent, the sample standard deviation of the former (None for one seed), and the number of seeds.

    Raises:
        ValueError: if there are none, or some that may not stand in one table.
    """
    found = groups(run for run in read_records(folder) if (run.task, run.upsampler) == ("segmentation", "bilinear"))
    if len(found) != 1 or len(found[0].rows) != 1:
        raise ValueError(
            f"{folder} has {sum(len(group.rows) for group in found)} kinds of segmentation records for bilinear, "
            "expected one: the same data set, images, protocol and settings"
        )
    (group,) = found
    miou, accuracy = (table(group, metric(name)).cells for name in ("miou", "accuracy"))
    rows: dict[str, dict[str, float | int | None]] = {}
    for place, cell in miou.items():
        rows[place[1].label] = {
            "mIoU": round(cell.mean, 2),
            "deviation over seeds": None if cell.deviation is None else round(cell.deviation, 3),
            "pixel accuracy": round(accuracy[place].mean, 2),
            "seeds": len(cell.seeds),
        }
    images = ", ".join(f"{split} {number}" for split, number in group.images.items())
    deviations = ", ".join(f"{name} = {value}" for name, value in group.deviations.items())
    protocol = group.protocol + (f" with deviations: {deviations}" if deviations else "")
    return {
        f"Linear probe on {group.dataset} (images: {images}; protocol: {protocol}), features upsampled by bilinear, "
        "per cent": rows
    }


def write(path: Path, student: nn.Module, training: Mapping[str, str], evaluation: Mapping[str, Any]) -> None:
    """Write the weights in float16, and the card beside them.

    Args:
        path: of the weights; the card has the suffix .md.
        student: the network, norms folded.
        training: how it was trained, for the file's metadata and the card.
        evaluation: results by heading, see :class:`ModelCard`.
    """
    training = {
        **training,
        "teachers": TEACHERS,
        "losses": LOSS,
        "commit": commit() or "unknown",
    }
    card = ModelCard(
        title="embedded: the backbone of the package",
        summary="A convolutional network of 1.9 million parameters that turns a photo into coarse features: 384 "
        "channels at stride 16 or 192 at stride 8, distilled from three pretrained networks.",
        usage=USAGE,
        training=training,
        intended_use="Features for demonstrations and tests of feature upsampling, and for first experiments with no "
        "download. RGB with values from 0 to 1; the backbone normalises itself.",
        limits=LIMITS,
        evaluation=evaluation,
        precision="float16 in the file, float32 when loaded.",
        licence="apache-2.0",
        licence_note="The photos (ImageNet, BSDS500, CamVid, DAVIS) are for non-commercial research and are not in "
        "the package; no teacher's weights are either. Whoever needs weights free of such data trains them anew with "
        "the command above.",
        tags=["feature-extraction", "distillation"],
        citation="Teachers: Iandola et al. 2016 (SqueezeNet); Sandler et al., CVPR 2018 (MobileNetV2); Chen et al. "
        "2017 (DeepLabV3). Block order: Liu et al., CVPR 2022 (ConvNeXt).",
    )
    state = {name: value.half().contiguous() for name, value in student.state_dict().items()}
    metadata = {"format": "pt", "backbone": "embedded", **training, "licence": card.licence}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: save_file(state, temporary, metadata))
    text = card.markdown()
    replace_file(path.with_suffix(".md"), lambda temporary: temporary.write_text(text, encoding="utf-8"))
