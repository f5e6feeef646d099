"""The depth probe: what it learns, what its records say, its settings, going on after a stop."""

import io
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console

import naf
from naf.evaluation import config, depth_loss_jafar, probe
from naf.evaluation.depth import DepthProtocol, DepthTask
from naf.evaluation.depth_head import decode_bins
from naf.evaluation.depth_loss import depth_loss
from naf.evaluation.depth_loss_jafar import jafar_depth_loss
from naf.evaluation.features import Features
from naf.evaluation.protocol import protocol_from
from naf.evaluation.run import run
from naf.evaluation.subset import Subset
from naf.evaluation.task import ProbeTask
from tests.helpers import Tiny, randn

SIDE = 96
NAMES = ("delta1", "delta2", "delta3", "rmse", "abs_rel", "sq_rel", "rmse_log", "log10", "silog")


def scene(seed, height=60, width=80):
    """A smooth image, (H, W, 3) uint8, and its depth in metres: 1 where red is dark, 5 where it is bright."""
    low = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = np.array(Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC))
    return image, (1 + image[..., 0] / 255 * 4).astype(np.float32)


class Memory:
    """Scenes in memory, as :class:`naf.data.depth.DepthSet` gives them; the first columns of depth are missing."""

    key, note = "memory", ""

    def __init__(self, *seeds, bare=()):
        self.seeds, self.bare = seeds, bare

    def __len__(self):
        return len(self.seeds)

    @property
    def names(self):
        return [f"scene {seed}" for seed in self.seeds]

    def read_image(self, index):
        return Image.fromarray(scene(self.seeds[index])[0])

    def read_depth(self, index):
        depth = scene(self.seeds[index])[1]
        depth[:, : 80 if self.seeds[index] in self.bare else 8] = 0
        return depth


def protocol(**changes):
    """Of a probe that takes a moment."""
    small = {"image_size": SIDE, "target_size": SIDE, "bins": 16, "epochs": 2, "lr": 0.05}
    return DepthProtocol(**{**small, **changes})


def task(settings, train=4, **memory):
    return DepthTask(Subset(Memory(*range(train))), Subset(Memory(100, 101, 102, **memory)), settings)


def learned(settings, about, **more):
    """The layer and its score."""
    features, upsampler = Features(Tiny()), naf.create("bilinear", None).eval()
    head = probe.fit(about, features, upsampler, settings, 0, **more)
    return head, probe.score(about, features, upsampler, settings, [head])[0]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder of pairs: four images of one scene, two of another."""
    root = tmp_path_factory.mktemp("pairs")
    lines = []
    for number, (name, count) in enumerate((("kitchen", 4), ("bedroom", 2))):
        (root / name).mkdir()
        for index in range(count):
            image, depth = scene(10 * number + index)
            Image.fromarray(image).save(root / name / f"{index}.png")
            Image.fromarray((depth * 1000).astype(np.uint16)).save(root / name / f"{index}_depth.png")
            lines.append(f"{name}/{index}.png {name}/{index}_depth.png 1000")
    (root / "pairs.txt").write_text("\n".join(lines))
    return root


def command(root, folder, *changes):
    """Records, failures and what was said of `naf eval depth`."""
    words = [
        "dataset=depth_pairs",
        f"dataset.root={root}",
        "dataset.options.scenes={train: [kitchen], val: [bedroom]}",
        "backbone={_target_:tests.helpers.Tiny}",
        "upsampler=bilinear",
        "seeds=0",
        f"folder={folder}",
        "cache=null",
        "workers=0",
        "device=cpu",
        *changes,
    ]
    said = io.StringIO()
    records, failures = run(config.load("depth", words), Console(file=said, width=400))
    return records, failures, said.getvalue()


SMALL = [
    f"protocol.image_size={SIDE}",
    f"protocol.target_size={SIDE}",
    "protocol.epochs=1",
    "protocol.bins=16",
]


@pytest.mark.parametrize(("loss", "most"), [("probe3d", 0.03), ("jafar", 0.12)])
def test_depth_that_the_features_show_is_learned(loss, most, monkeypatch):
    monkeypatch.setattr(depth_loss_jafar, "WARM_UP", 5)  # 100 would be most of the training
    settings = protocol(loss=loss, epochs=30, lr=0.2)
    errors = learned(settings, task(settings, train=6))[1].metrics()
    untaught = learned(replace(settings, lr=1e-9, epochs=1), task(settings))[1].metrics()
    assert untaught["abs_rel"] > 1
    assert untaught["delta1"] < 10
    assert errors["abs_rel"] < most
    assert errors["delta1"] > 90


def test_targets_are_metres_without_those_beyond_the_last_bin():
    settings = protocol(max_depth=3.0)
    about = task(settings)
    target = about.target(about.val, 0, 30, "square")
    depth = np.array(Image.fromarray(about.val.whole.read_depth(0)).resize((30, 30), Image.Resampling.NEAREST))
    assert (depth > 3).any()
    assert (depth == 0).any()
    np.testing.assert_array_equal(target, np.where(depth > 3, 0, depth))
    assert target.dtype == torch.float32


def test_losses_are_those_of_the_settings():
    logits, targets = randn(2, 16, 12, 12).abs(), randn(2, 12, 12, seed=1).abs() + 0.5
    prediction = decode_bins(logits, min_depth=0.5, max_depth=8)
    for loss, step, expected in (
        ("probe3d", 0, depth_loss(prediction, targets[:, None])),
        ("jafar", 0, jafar_depth_loss(prediction, targets[:, None], 0)),
        ("jafar", 100, jafar_depth_loss(prediction, targets[:, None], 100)),
    ):
        about = task(protocol(loss=loss, min_depth=0.5, max_depth=8.0))
        torch.testing.assert_close(about.loss(logits, targets, step), expected, rtol=0, atol=0)
    assert about.outputs == 16


def test_an_image_without_depth_is_in_no_mean():
    settings = protocol(epochs=1)
    everything = learned(settings, task(settings))[1]
    some = learned(settings, task(settings, bare=[101]))[1]
    by_image = everything.details()["image_delta1"]
    assert list(by_image) == ["scene 100", "scene 101", "scene 102"]
    assert everything.metrics()["delta1"] == pytest.approx(sum(by_image.values()) / 3)
    assert some.details() == {"image_delta1": {**by_image, "scene 101": None}, "skipped": 1}
    assert some.metrics()["delta1"] == pytest.approx((by_image["scene 100"] + by_image["scene 102"]) / 2)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, slice(None)),
        ({"eigen_crop": True}, (slice(9, 94), slice(6, 90))),  # rows 45 … 471 of 480, columns 41 … 601 of 640
        ({"eigen_crop": True, "geometry": "crop"}, (slice(9, 94), slice(0, 96))),
    ],
)
def test_the_part_that_is_scored(changes, kept):
    score = task(protocol(**changes)).score()
    outside = torch.ones(96, 96)
    outside[kept] = 0
    logits = torch.zeros(1, 16, 96, 96)
    # Right inside, nothing measured in the middle, wrong outside.
    targets = torch.where(outside > 0, 1.0, decode_bins(logits)[0, 0])
    targets[40:50] = 0
    for _ in range(3):
        score.add(logits, targets[None])
    assert score.metrics()["rmse"] == 0
    assert list(score.details()["image_delta1"].values()) == [100.0] * 3


def test_jafars_mask_leaves_the_last_bin_out():
    logits, targets = torch.zeros(1, 16, 4, 4), torch.full((1, 4, 4), 10.0)
    targets[0, 0] = 5.0
    plain, masked = (task(protocol(jafar_mask=is_masked)).score() for is_masked in (False, True))
    for score in (plain, masked):
        for _ in range(3):
            score.add(logits, targets)
    assert plain.metrics()["delta1"] == 25
    assert masked.metrics()["delta1"] == 100


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bins": 1}, "protocol.bins is 1, expected at least 2"),
        ({"bins": None}, "protocol.bins is None, expected a whole number"),
        ({"min_depth": 10.0}, "protocol.min_depth is 10.0 and max_depth 10.0, expected 0 <= min < max"),
        ({"min_depth": -1}, "protocol.min_depth is -1.0"),
        ({"max_depth": float("nan")}, "max_depth nan"),
        ({"max_depth": float("inf")}, "max_depth inf"),
        ({"loss": "l1"}, "protocol.loss is 'l1', expected one of probe3d, jafar"),
        ({"loss": "jafar", "batch_size": 4}, "protocol.batch_size is 4, expected 1 or 2 with loss jafar"),
        ({"eigen_crop": 1}, "protocol.eigen_crop is 1, expected true or false"),
        ({"pixels": 2048}, "protocol.pixels is 2048, expected null: depth is learned from whole maps"),
        ({"lr": 0.0}, "protocol.lr is 0.0"),
        ({"eigen": True}, "protocol.eigen is unknown, expected one of"),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        protocol_from(DepthProtocol, values)


def test_single_pixels_are_refused():
    assert DepthTask.labelled is ProbeTask.labelled
    with pytest.raises(ValueError, match="DepthTask learns from whole maps"):
        task(protocol()).labelled(torch.ones(4, 4))


def test_the_papers_settings_are_the_defaults():
    paper, released = (_protocol_of(name) for name in ("paper", "released"))
    assert protocol_from(DepthProtocol, paper) == DepthProtocol()
    assert protocol_from(DepthProtocol, released) == DepthProtocol(
        name="released", geometry="crop", shared_order=True, loss="jafar", jafar_mask=True
    )
    assert list(paper) == list(asdict(DepthProtocol()))


def _protocol_of(name):
    words = ["dataset=nyuv2", "dataset.root=x", "backbone=x", "upsampler=x", f"protocol={name}"]
    return config.load("depth", words)["protocol"]


def test_a_command_writes_complete_records(pairs, tmp_path):
    records, failures, said = command(pairs, tmp_path, *SMALL, "upsampler=bilinear,naf", "seeds=0,1")
    assert failures == 0, said
    assert [(one.upsampler, one.seed) for one in records] == [
        ("bilinear", 0),
        ("bilinear", 1),
        ("naf", 0),
        ("naf", 1),
    ]
    for one in records:
        assert (one.task, one.protocol, one.dataset) == ("depth", "paper", "depth_pairs")
        assert one.images == {"train": 4, "val": 2}
        assert list(one.metrics) == [*NAMES, *(f"aligned_{name}" for name in NAMES)]
        assert all(np.isfinite(value) for value in one.metrics.values())
        assert one.deviations == {"image_size": SIDE, "target_size": SIDE, "epochs": 1, "bins": 16}
        assert one.settings["loss"] == "probe3d"
        assert one.settings["max_depth"] == 10
        assert list(one.details["image_delta1"]) == ["bedroom/0.png", "bedroom/1.png"]
    assert records[0].metrics != records[1].metrics != records[2].metrics


def test_a_plain_protocol_deviates_in_nothing_and_experiments_carry_a_split(pairs, tmp_path):
    own = tmp_path / "configs"
    (own / "protocol").mkdir(parents=True)
    (own / "experiment").mkdir()
    settings = {"name": "small", "image_size": SIDE, "target_size": SIDE, "epochs": 1, "bins": 16}
    (own / "protocol" / "small.yaml").write_text(yaml.safe_dump({"defaults": ["paper"], **settings}))
    split = {"dataset": {"options": {"scenes": {"train": ["kitchen"], "val": ["bedroom"]}}}}
    (own / "experiment" / "rooms.yaml").write_text("# @package _global_\n" + yaml.safe_dump(split))
    words = ["dataset=depth_pairs", f"dataset.root={pairs}", "backbone={_target_:tests.helpers.Tiny}", "seeds=0"]
    words += ["upsampler=nearest", f"folder={tmp_path}", "cache=null", "workers=0", "device=cpu"]
    words += ["protocol=small", "experiment=rooms"]
    changed = ["protocol.loss=jafar", "protocol.standardize=true"]
    for more, deviations in (([], {}), (changed, {"loss": "jafar", "standardize": True})):
        values = config.load("depth", [*words, *more], own)
        (one,), failures = run(values, Console(file=io.StringIO()))
        assert (failures, one.protocol) == (0, "small")
        assert one.deviations == deviations


def test_what_is_there_is_not_computed_again_unless_the_depth_is_another(pairs, tmp_path):
    (first,), _, _ = command(pairs, tmp_path, *SMALL)
    (again,), _, said = command(pairs, tmp_path, *SMALL)
    assert "there already" in said
    assert again == first
    (other,), _, said = command(pairs, tmp_path, *SMALL, "dataset.options.units=2000")
    assert "there already" not in said
    assert other.metrics != first.metrics


def test_sanity_is_a_short_run_beside(pairs, tmp_path):
    (one,), failures, _ = command(pairs, tmp_path, *SMALL, "protocol.epochs=50", "sanity=true", "protocol.loss=jafar")
    assert failures == 0
    assert one.settings["epochs"] == 1
    assert [path.parts[-4] for path in tmp_path.rglob("*.json")] == ["sanity"]


def test_drawn_pixels_and_a_missing_split_are_refused_at_once(pairs, tmp_path):
    with pytest.raises(ValueError, match=r"protocol\.pixels is 100, expected null"):
        command(pairs, tmp_path, "protocol.pixels=100")
    with pytest.raises(ValueError, match=r"pairs\.txt: has no split 'train', expected scenes="):
        command(pairs, tmp_path, "dataset.options.scenes=null")


def test_a_stopped_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_SAVED_EVERY", 0)
    monkeypatch.setattr(depth_loss_jafar, "WARM_UP", 3)  # before the stop: counted anew, it would come again
    settings = protocol(loss="jafar", epochs=4)
    whole, _ = learned(settings, task(settings))
    steps = []

    def stop():
        steps.append(0)
        if len(steps) == 5:
            raise KeyboardInterrupt

    path = tmp_path / "run.ckpt"
    with pytest.raises(KeyboardInterrupt):
        learned(settings, task(settings), checkpoint=path, on_step=stop)
    assert torch.load(path, weights_only=True)["step"] == 4
    gone_on, _ = learned(settings, task(settings), checkpoint=path)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(gone_on.state_dict()[name], value, rtol=0, atol=0)
