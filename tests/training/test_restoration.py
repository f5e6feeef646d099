"""Restorers trained in place of upsamplers: noise, steps, validation, pictures, resuming, export."""

from dataclasses import replace

import pytest
import torch
import yaml
from PIL import Image

import naf.restoration
from naf.restoration import metrics
from naf.restoration.noise import GaussianNoise, SaltAndPepperNoise
from naf.training import build, config
from naf.training.datamodule import PhotoData
from naf.training.export import export, export_upsampler
from naf.training.l2 import L2
from naf.training.module import TrainingModule
from naf.training.objectives import RestorationObjective
from naf.training.parity import parity, reduced
from naf.training.photos import Batch
from naf.training.plan import Geometry, Stage, StepPlan
from naf.training.restoration import RestorationModule
from naf.training.run import run
from naf.training.sanity import check_training
from naf.training.sources import NoisySource
from naf.training.sweep import sweep
from naf.weight_record import read_record
from tests.training.objectives.examples import photos
from tests.training.tiny_run import assert_same, losses, overrides, quiet_console, weights

PLAN = StepPlan(0, 0, "noisy", 24, 12, 24, 4, seed=5)
SMALL = {
    "naf": ["upsampler.dim=16", "upsampler.heads_rope=1", "upsampler.img_layers=1", "upsampler.kernel_size=3"],
    "dncnn": ["upsampler.num_layers=3", "upsampler.num_features=8"],
    "ircnn": [],
    "rednet": ["upsampler.num_layers=3", "upsampler.num_features=8"],
    "restormer": ["upsampler.dim=8", "upsampler.num_blocks=[1,1,1,1]", "upsampler.num_refinement_blocks=1"],
}


def tiny(folder, name, *changes):
    """Overrides of a run of a second."""
    kept = [
        line
        for line in overrides(folder)
        if not line.startswith(("upsampler.", "stages=", "backbone=", "stages.first.geometry"))
    ]
    sizes = ["stages.first.geometry.image_size=24", "sources.noisy.val_size=24"]
    return [f"experiment=denoise_{name}", *kept, *SMALL[name], *sizes, *changes]


def load(folder, name="naf", *changes):
    return config.load(tiny(folder, name, *changes))


def batch(plan=PLAN, first=0, count=4):
    return Batch(plan, photos(24, 4)[:count], None, None, first)


@pytest.mark.parametrize("name", SMALL)
def test_every_restorer_trains_with_the_same_command(name, tmp_path):
    result = run(load(tmp_path / "a", name, "stages.first.steps=2", "validate_every=2"), quiet_console())
    assert len(losses(tmp_path / "a")) == 2
    assert losses(tmp_path / "a", "train/grad_norm")[1] > 0
    terms = [losses(tmp_path / "a", f"train/{term}")[0] for term in ("l1", "l2", "ssim")]
    assert losses(tmp_path / "a")[0] == pytest.approx(sum(terms), rel=1e-5)
    assert result["validation"].keys() == {f"val/noisy/{kind}" for kind in RestorationModule.kinds}


@pytest.mark.parametrize("name", SMALL)
def test_experiments_have_the_papers_settings(name):
    values = config.plain(config.load([f"experiment=denoise_{name}", "data.root=photos"]))
    assert values["stages"] == {"first": {"steps": 25000, "batch_size": 4, "lr": 2e-4, "geometry": {"image_size": 448}}}
    assert (values["optimizer"]["algorithm"]["weight_decay"], values["optimizer"]["schedule"]) == (1e-5, "constant")
    sources = build.make_sources(values)
    assert sources["noisy"].noise == GaussianNoise((0.1, 0.5))
    objective = build.make_objective(values, sources)
    assert (objective.loss.l1, objective.loss.l2, objective.loss.ssim) == (1.0, 5.0, 0.2)
    network = build.make_network(values, sources)
    assert network.config == naf.restoration.create(name, weights=None).config  # the defaults, of the paper's sizes
    other = config.load([f"experiment=denoise_{name}", "data.root=photos", "noise=salt_and_pepper", "noise.level=0.1"])
    assert build.make_sources(config.plain(other))["noisy"].noise == SaltAndPepperNoise(0.1)


def test_training_lowers_the_loss(tmp_path):
    """And gives photos that it has not seen with less noise."""
    changes = ["stages.first.steps=30", "stages.first.batch_size=6", "noise.level=0.3", "checkpoint_every=30"]
    result = run(load(tmp_path / "a", "dncnn", *changes, "validate_every=30"), quiet_console())
    found = list(losses(tmp_path / "a").values())
    assert found[-1] < 0.5 * found[0]
    assert result["validation"]["val/noisy/psnr"] > result["validation"]["val/noisy/noisy_psnr"] + 1


@pytest.mark.parametrize("name", ["naf", "rednet"])
def test_half_precision_trains_and_measures_in_full(name, tmp_path):
    changes = ["stages.first.steps=2", "validate_every=2", "stages.first.lr=1e-4"]
    full = run(load(tmp_path / "a", name, *changes), quiet_console())["validation"]
    half = run(load(tmp_path / "b", name, *changes, "trainer.precision=bf16-mixed"), quiet_console())["validation"]
    for key in ("noisy_psnr", "noisy_ssim"):
        assert half[f"val/noisy/{key}"] == full[f"val/noisy/{key}"]
    for key in ("loss", "psnr", "ssim"):
        assert half[f"val/noisy/{key}"] == pytest.approx(full[f"val/noisy/{key}"], rel=0.02)
    assert half["val/noisy/psnr"] != full["val/noisy/psnr"]


def test_a_run_that_was_left_goes_on_as_if_it_had_not_been(tmp_path):
    """In training mode too: NAF draws a coordinate scale then, and a validation lies between the steps."""
    changes = ["stages.first.steps=7", "data=native"]
    changes += ["noise=salt_and_pepper", "data.workers=1"]
    run(load(tmp_path / "whole", "naf", *changes), quiet_console())
    for stop in (2, 5, None):
        run(load(tmp_path / "left", "naf", *changes), quiet_console(), stop=stop)
    for key in ("train/loss", "train/grad_norm", "val/noisy/psnr", "val/noisy/noisy_ssim"):
        assert_same(losses(tmp_path / "left", key), losses(tmp_path / "whole", key))
    assert list(losses(tmp_path / "whole", "val/noisy/psnr")) == [4, 7]
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "left")[name], value), name
    with pytest.raises(ValueError, match=r"sources\.noisy\.noise\.level was \[0\.1, 0\.5\], is 0\.2"):
        run(load(tmp_path / "left", "naf", *changes, "noise.level=0.2"), quiet_console())


def test_batch_norms_go_on_too(tmp_path):
    run(load(tmp_path / "whole", "dncnn"), quiet_console())
    for stop in (3, None):
        run(load(tmp_path / "left", "dncnn"), quiet_console(), stop=stop)
    assert_same(losses(tmp_path / "left"), losses(tmp_path / "whole"))
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "left")[name], value), name


def test_a_validation_leaves_the_whole_network_in_training_mode(tmp_path, monkeypatch):
    modes = {}
    step = RestorationModule.training_step

    def noted(module, batch, batch_idx):
        modes[batch.plan.step] = module.upsampler._naf.training
        return step(module, batch, batch_idx)

    monkeypatch.setattr(RestorationModule, "training_step", noted)
    run(load(tmp_path / "a", "naf", "validate_every=2"), quiet_console())
    assert modes == dict.fromkeys(range(5), True)


def test_the_images_of_a_batch_share_a_level_and_have_noise_of_their_own():
    source = NoisySource(GaussianNoise((0.1, 0.5)))
    whole, later = source.example(batch()), source.example(batch(replace(PLAN, seed=6)))
    noise = whole.features - whole.target
    assert torch.equal(whole.target, photos(24, 4))
    assert noise.std((1, 2, 3)).tolist() == pytest.approx([noise.std().item()] * 4, rel=0.06)
    assert (later.features - later.target).std() != pytest.approx(noise.std().item(), rel=0.06)
    assert all(abs(torch.corrcoef(noise.flatten(1))[i, j]) < 0.1 for i in range(4) for j in range(i))
    second = Batch(PLAN, photos(24, 4)[2:], None, None, first=2)  # the share of another process
    assert torch.equal(source.example(second).features, whole.features[2:])
    assert torch.equal(source.example(batch()).features, whole.features)
    assert torch.allclose(whole.guidance * 0.229 + 0.485, whole.features, atol=0.2)  # standardised: about that


def test_held_out_photos_have_levels_of_their_own():
    source = NoisySource(GaussianNoise((0.1, 0.5)))
    alone = replace(PLAN, batch_size=1)
    examples = [source.example(batch(alone, first=index, count=1)) for index in range(6)]
    levels = [(example.features - example.target).std().item() for example in examples]
    assert all(0.08 < level < 0.54 for level in levels)
    assert max(levels) > 1.3 * min(levels)
    with pytest.raises(ValueError, match="expected noise=gaussian or"):
        NoisySource({})
    with pytest.raises(ValueError, match="val_size is 0"):
        NoisySource(GaussianNoise(0.1), val_size=0)


def test_validation_measures_what_the_restorer_gives(tmp_path):
    """Against the metrics themselves, over views of their own size."""
    changes = ["sources.noisy.val_size=40", "pictures=2", "pictures_every=5", "logger=tensorboard"]
    console = quiet_console()
    result = run(load(tmp_path / "a", "naf", *changes), console)
    values = config.plain(load(tmp_path / "a", "naf", *changes))
    sources = build.make_sources(values)
    restorer = naf.restoration.create(
        "naf", weights=None, **{k: v for k, v in values["upsampler"].items() if k != "name"}
    )
    state = weights(tmp_path / "a")
    restorer.load_state_dict(
        {key.removeprefix("upsampler."): value for key, value in state.items() if key.startswith("upsampler.")}
    )
    held_out = build.make_validation_photos(values, sources)["noisy"]
    stages = config.stages_of(load(tmp_path / "a", "naf", *changes))
    data = PhotoData(stages, sources, {}, {"noisy": held_out}, seed=0, steps_per_epoch=1)
    examples = [sources["noisy"].example(one) for one in data.picture_batches(3)]
    assert {tuple(example.target.shape) for example in examples} == {(1, 3, 40, 40)}
    for key, measure in (("psnr", metrics.psnr), ("ssim", metrics.ssim)):
        with torch.no_grad():
            own = [measure(restorer(example.features), example.target).item() for example in examples]
        noisy = [measure(example.features, example.target).item() for example in examples]
        assert result["validation"][f"val/noisy/{key}"] == pytest.approx(sum(own) / 3, rel=1e-4)
        assert result["validation"][f"val/noisy/noisy_{key}"] == pytest.approx(sum(noisy) / 3, rel=1e-4)
    said = console.file.getvalue()
    assert "denoise-naf with" in said
    assert "held-out photos: noisy " in said
    assert " dB, SSIM 0." in said
    drawn = sorted((tmp_path / "a/samples").iterdir())
    assert [path.name for path in drawn] == ["0000005_0.png", "0000005_1.png"]
    with Image.open(drawn[0]) as sheet:
        assert sheet.width > sheet.height


@pytest.mark.parametrize("name", ["naf", "dncnn"])
def test_an_exported_run_gives_the_same_restorer_with_its_history(name, tmp_path):
    folder, file = tmp_path / "a", tmp_path / "mine.safetensors"
    run(load(folder, name, "noise=salt_and_pepper"), quiet_console())
    done = export(folder, file, dtype="float32")
    restorer = naf.restoration.create(name, weights=file)
    assert not restorer.training
    for key, value in restorer.state_dict().items():
        assert torch.equal(value, weights(folder)[f"upsampler.{key}"]), key
    record = read_record(file)
    assert record.upsampler == f"denoise-{name}"
    assert record.config == restorer.config
    facts = {
        "noise": "SaltAndPepperNoise(level=[0.1, 0.5])",
        "losses": "RestorationObjective(l1=1.0, l2=5.0, ssim=0.2)",
        "steps": "5",
        "licence": "apache-2.0",
    }
    assert {key: record.about[key] for key in facts} == facts
    assert "backbones" not in record.about
    text = done.card.read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["pipeline_tag"], front["tags"][0]) == ("image-to-image", "image-denoising")
    assert f'naf.restoration.create("{name}", weights="mine.safetensors")' in text
    assert "SaltAndPepperNoise" in text
    assert "val/noisy/psnr" in text
    begun = load(tmp_path / "b", name, f"weights={file}", "noise=salt_and_pepper", "stages.first.lr=1e-12")
    again = run(begun, quiet_console())["validation"]["val/noisy/psnr"]
    before = yaml.safe_load((folder / "result.json").read_text())["validation"]["val/noisy/psnr"]
    assert name == "dncnn" or again == pytest.approx(before, rel=1e-4)  # its batch norms go on learning


def test_half_precision_is_measured_on_a_noisy_photo(tmp_path):
    restorer = naf.restoration.create("ircnn", weights=None)
    done = export_upsampler(restorer, tmp_path / "a.safetensors", about={}, dtype="float16")
    assert done.parity == parity(restorer, reduced(restorer, torch.float16))
    assert 0 < done.parity < 1e-2
    again = naf.restoration.create("ircnn", weights=tmp_path / "a.safetensors")
    assert export(tmp_path / "a.safetensors", tmp_path / "b.safetensors", dtype="float16").parity == 0
    noisy = photos(24, 1) + 0.1 * torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(again(noisy), restorer(noisy), atol=1e-2)
    torch.save(restorer.state_dict(), tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="say which upsampler it holds"):
        export(tmp_path / "bare.pth", tmp_path / "c.safetensors")
    export(tmp_path / "bare.pth", tmp_path / "c.safetensors", name="denoise-ircnn")
    assert read_record(tmp_path / "c.safetensors").upsampler == "denoise-ircnn"


def test_what_cannot_be_exported_is_said(tmp_path):
    restorer = naf.restoration.create("ircnn", weights=None)
    with torch.no_grad():
        next(restorer.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite: its training failed"):
        export_upsampler(restorer, tmp_path / "a.safetensors", about={})
    with pytest.raises(ValueError, match="does not know its configuration"):
        export_upsampler(naf.restoration.ircnn.IRCNN(), tmp_path / "a.safetensors", about={})


def test_a_dry_run_goes_through_everything(tmp_path):
    console = quiet_console()
    check_training(load(tmp_path / "a", "naf", "sanity=true", "pictures=1"), console)
    assert "all is well: 4 steps of 1 stages" in console.file.getvalue()
    assert naf.restoration.create("naf", weights=tmp_path / "a/sanity/upsampler.safetensors").config["dim"] == 16


def test_a_sweep_has_psnr_and_ssim_in_its_table(tmp_path):
    given = tiny(tmp_path / "s", "ircnn", "noise.level=0.1,0.4", "stages.first.steps=1", "stages.first.lr=1e-9")
    rows = sweep(given, quiet_console())
    heading, _, low, high = (tmp_path / "s/table.md").read_text().splitlines()
    assert heading.startswith("| noise.level | train loss | PSNR, noisy | SSIM, noisy | parameters")
    assert f"{rows[0].result['validation']['val/noisy/psnr']:.5g}" in low
    assert float(low.split("|")[3]) > float(high.split("|")[3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("objective=l2", r"L2, which cannot train 'denoise-naf': restorers need objective=restoration"),
        ("sources=pixels", r"sources\.pixels is a PixelSource, but 'denoise-naf' needs sources=noisy"),
        ("noise.level=-1", r"sources\.noisy cannot be made: .*level is -1"),
        ("noise.level=[0.5,0.1]", r"sources\.noisy cannot be made: .*level is \[0\.5, 0\.1\]"),
        ("+upsampler.depth=2", "no argument 'depth'"),
        ("upsampler.heads_attn=2", "expected 1 or 3"),
        ("objective.l1=-1", "objective cannot be made: l1 is -1"),
    ],
)
def test_what_does_not_hold_together_is_said_in_one_line(change, message, tmp_path):
    kept = [line for line in tiny(tmp_path / "a", "naf") if not (change == "sources=pixels" and "val_size" in line)]
    with pytest.raises(ValueError, match=message) as caught:
        run(config.load([*kept, change]), quiet_console())
    assert "\n" not in str(caught.value)


def test_a_noise_must_be_chosen_where_no_experiment_does():
    groups = ["upsampler=denoise_naf", "objective=restoration", "sources=noisy", "data.root=photos"]
    with pytest.raises(ValueError, match=r"sources\.noisy cannot be made: noise is \{\}, expected noise=gaussian"):
        build.make_sources(config.plain(config.load(groups)))


def test_upsamplers_are_not_trained_by_the_objective_of_restorers():
    sources = {"noisy": NoisySource(GaussianNoise(0.1))}
    upsampler = naf.create("naf", weights=None, dim=16, heads_attn=1, heads_rope=1)
    with pytest.raises(ValueError, match="cannot train 'naf'"):
        TrainingModule(upsampler, RestorationObjective(), sources, [Stage(1, Geometry())])
    TrainingModule(upsampler, L2(), sources, [Stage(1, Geometry())])
