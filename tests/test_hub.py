"""The Hugging Face Hub: folders in the mixin's layout, repositories from the cache, uploads that are only noted."""

import json

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import HfApi, PyTorchModelHubMixin, constants, hub_mixin
from safetensors.torch import load_file, save_file

import naf
from naf.registry import entry
from naf.training.export import export_upsampler
from naf.upsamplers.naf import NAF
from naf.weights import WeightsError
from tests.helpers import NAMES, Tiny, small
from tests.restoration import networks as restorers

LEARNED = [name for name in NAMES if entry(name).needs_weights]
FILES = ["README.md", "config.json", "model.safetensors"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def backbone_of(name):
    return {"backbone": Tiny()} if entry(name).needs_backbone else {}


class HubNAF(PyTorchModelHubMixin, NAF):
    """NAF as huggingface_hub's own mixin saves and loads it."""


# Folders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNED)
def test_a_folder_gives_the_same_upsampler_back(tmp_path, name):
    small(name).save_pretrained(tmp_path)
    assert files_in(tmp_path) == FILES
    restored = naf.hub.from_pretrained(tmp_path, **backbone_of(name))
    assert type(restored) is type(small(name))
    assert (restored.name, restored.config, restored.training) == (name, small(name).config, False)
    assert same(restored.state_dict(), small(name).state_dict())
    assert same(naf.create(name, weights=tmp_path, **backbone_of(name)).state_dict(), small(name).state_dict())
    assert yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])["library_name"] == "naf-upsampler"


def test_calling_options_and_contradictions_are_those_of_create(tmp_path):
    small("naf").save_pretrained(tmp_path)
    assert naf.hub.from_pretrained(tmp_path, neighborhood="cell").neighborhood == "cell"
    with pytest.raises(ValueError, match=r"dim is 64, but .* needs 32"):
        naf.hub.from_pretrained(tmp_path, dim=64)


def test_the_mixin_of_huggingface_hub_reads_our_folder(tmp_path):
    small("naf", kernel_size=5).save_pretrained(tmp_path)
    restored = HubNAF.from_pretrained(tmp_path)
    assert (restored.dim, restored.kernel_size) == (32, 5)
    assert same(restored.state_dict(), small("naf").state_dict())


def test_we_read_the_folder_of_huggingface_hubs_mixin(tmp_path):
    trained = HubNAF(dim=32, img_layers=1, kernel_size=5)
    PyTorchModelHubMixin.save_pretrained(trained, tmp_path)
    restored = naf.create("naf", weights=tmp_path)
    assert (restored.dim, restored.kernel_size) == (32, 5)
    assert same(restored.state_dict(), trained.state_dict())
    with pytest.raises(WeightsError, match="does not say which upsampler it holds"):
        naf.hub.from_pretrained(tmp_path)


def test_a_folder_of_half_precision_weights_does_not_claim_to_be_half_precision(tmp_path):
    export_upsampler(small("naf"), tmp_path / "naf.safetensors", about={"data": "ten photos"}, dtype="float16")
    naf.create("naf", weights=tmp_path / "naf.safetensors").save_pretrained(tmp_path / "folder")
    assert {value.dtype for value in load_file(tmp_path / "folder/model.safetensors").values()} == {torch.float32}
    about = naf.hub.from_pretrained(tmp_path / "folder").record.about
    assert about["data"] == "ten photos"
    assert "float16" not in "".join(about.values())


def test_a_second_save_replaces_the_first(tmp_path):
    small("naf").save_pretrained(tmp_path)
    small("jafar").save_pretrained(tmp_path)
    assert files_in(tmp_path) == FILES
    assert naf.hub.from_pretrained(tmp_path).name == "jafar"
    assert "jafar" in (tmp_path / "README.md").read_text()


def test_the_card_is_the_one_given_or_that_of_the_file_or_a_new_one(tmp_path):
    file, given = tmp_path / "naf.safetensors", tmp_path / "mine.md"
    given.write_text("---\nlicense: mit\n---\nmine\n")
    export_upsampler(small("naf"), file, about={"data": "ten photos"}, evaluation={"probe": {"mIoU": 41.3}})
    small("naf").save_pretrained(tmp_path / "new")
    loaded = naf.create("naf", weights=file)
    loaded.save_pretrained(tmp_path / "of_file")
    loaded.save_pretrained(tmp_path / "given", card=given)
    file.with_suffix(".md").unlink()
    naf.create("naf", weights=file).save_pretrained(tmp_path / "without")
    naf.hub.from_pretrained(tmp_path / "of_file").save_pretrained(tmp_path / "again")
    cards = {path.parent.name: path.read_text() for path in tmp_path.glob("*/README.md")}
    assert "ten photos" not in cards["new"]
    assert "41.3" in cards["of_file"]
    assert cards["again"] == cards["of_file"]
    assert cards["given"] == given.read_text()
    assert "ten photos" in cards["without"]
    assert "41.3" not in cards["without"]


def test_bad_cards_and_unknown_configurations_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        small("naf").save_pretrained(tmp_path / "a", card=tmp_path / "none.md")
    for call in (lambda: NAF(dim=16).save_pretrained(tmp_path / "a"), lambda: NAF(dim=16).push_to_hub("user/naf")):
        with pytest.raises(ValueError, match=r"make it with naf\.create"):
            call()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"half"), "no readable safetensors"),
        (lambda folder: strip(folder, config=None), "does not say which upsampler"),
        (lambda folder: strip(folder, config="{"), "is no JSON"),
        (lambda folder: strip(folder, config="[]"), "expected an object"),
        (lambda folder: strip(folder, config='{"upsampler": "naf", "format_version": 9}'), "format version 9"),
        (lambda folder: strip(folder, config='{"upsampler": "naf", "colour": 9}'), "does not have here: colour"),
        (lambda folder: strip(folder, config='{"upsampler": "naf", "dim": 64}'), "wrong shape"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, spoil, message):
    small("naf").save_pretrained(tmp_path)
    spoil(tmp_path)
    with pytest.raises(WeightsError, match=message):
        naf.hub.from_pretrained(tmp_path)


def strip(folder, config):
    """Take the metadata away, and put another config.json in place."""
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(config)


# Restorers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", restorers.NAMES)
def test_a_folder_gives_the_same_restorer_back(tmp_path, name):
    saved = restorers.small(name)
    naf.hub.save_pretrained(saved, tmp_path)
    assert files_in(tmp_path) == FILES
    assert json.loads((tmp_path / "config.json").read_text())["upsampler"] == f"denoise-{name}"
    front = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    assert front["pipeline_tag"] == "image-to-image"
    for restored in (naf.hub.from_pretrained(tmp_path), naf.restoration.create(name, weights=tmp_path)):
        assert type(restored) is type(saved)
        assert (restored.name, restored.config, restored.training) == (name, saved.config, False)
        assert same(restored.state_dict(), saved.state_dict())


def test_a_restorers_card_and_calling_options_are_kept(tmp_path):
    file = tmp_path / "naf.safetensors"
    export_upsampler(restorers.small("naf"), file, about={"noise": "rain"}, evaluation={"Kodak": {"PSNR": 31.7}})
    naf.hub.save_pretrained(naf.restoration.create("naf", weights=file), tmp_path / "folder")
    assert "31.7" in (tmp_path / "folder" / "README.md").read_text()
    again = naf.hub.from_pretrained(tmp_path / "folder", kernel_size=9)
    assert (again.record.about["noise"], again.config["kernel_size"]) == ("rain", 9)
    with pytest.raises(WeightsError, match=r"holds weights of 'denoise-naf', not of 'denoise-ircnn'"):
        naf.restoration.create("ircnn", weights=tmp_path / "folder")
    with pytest.raises(ValueError, match=r"make it with naf\.restoration\.create"):
        naf.hub.save_pretrained(naf.restoration.naf.NAFRestorer(dim=16), tmp_path / "none")


# Repositories -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """huggingface_hub's cache with one repository, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache" / "models--user--naf"
    small("naf").save_pretrained(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "refs" / "v1").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


@pytest.mark.parametrize("revision", ["", "@v1", f"@{COMMIT}"])
def test_a_repository_that_was_downloaded_loads_without_a_network(cache, revision):
    upsampler = naf.create("naf", weights=f"hf:user/naf{revision}")
    assert same(upsampler.state_dict(), small("naf").state_dict())
    assert upsampler.weights_source == f"hf:user/naf@{COMMIT}"
    assert same(naf.hub.from_pretrained(f"user/naf{revision}").state_dict(), small("naf").state_dict())
    assert naf.hub.from_pretrained("hf:user/naf", revision=revision[1:] or None).config == small("naf").config


@pytest.mark.parametrize("what", ["user/other", "user/naf@v2", "", "a/b/c"])
def test_a_repository_that_cannot_be_had_is_named(cache, what):
    with pytest.raises(WeightsError, match=rf"hf:{what.partition('@')[0]}.* cannot be had: ."):
        naf.create("naf", weights=f"hf:{what}")
    with pytest.raises(WeightsError, match="cannot be had"):
        naf.hub.from_pretrained(f"hf:{what}")


def test_only_the_three_files_are_asked_for(tmp_path, monkeypatch):
    asked = []
    small("naf").save_pretrained(tmp_path / COMMIT)

    def snapshot_download(repository, **options):
        asked.append((repository, options))
        return str(tmp_path / COMMIT)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    naf.create("naf", weights="hf:user/naf@abc")
    assert len(asked) == 1
    repository, options = asked[0]
    assert (repository, options["revision"], sorted(options["allow_patterns"])) == ("user/naf", "abc", FILES)


# Uploads ------------------------------------------------------------------------------------------------------------


class Api(HfApi):
    """Notes what would be sent."""

    sent = None

    def create_repo(self, repo_id, **options):
        type(self).sent = {"repository": repo_id, "token": self.token, "create": options}
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, **options):
        content = {path.name: path.read_bytes() for path in folder_path.iterdir()}
        type(self).sent |= {"to": repo_id, "content": content, "upload": options}
        return f"https://huggingface.co/{repo_id}/commit/{COMMIT}"


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setattr(hub_mixin, "HfApi", Api)
    monkeypatch.setattr(Api, "sent", None)
    return Api


def test_an_upload_sends_three_files_in_one_commit(tmp_path, api):
    address = small("naf").push_to_hub("user/naf", private=True, branch="dev", create_pr=True, token="hf_none")
    assert address == f"https://huggingface.co/user/naf/commit/{COMMIT}"
    sent = api.sent
    assert (sent["repository"], sent["to"], sent["token"]) == ("user/naf", "user/naf", "hf_none")
    assert (sent["create"]["private"], sent["create"]["exist_ok"]) == (True, True)
    upload = sent["upload"]
    assert (upload["repo_type"], upload["revision"], upload["create_pr"]) == ("model", "dev", True)
    assert upload["commit_message"] == "Upload upsampler"
    assert sorted(sent["content"]) == FILES
    config = json.loads(sent["content"]["config.json"])
    assert (config["upsampler"], config["format_version"], config["dim"]) == ("naf", 1, 32)
    for name, content in sent["content"].items():
        (tmp_path / name).write_bytes(content)
    assert same(naf.hub.from_pretrained(tmp_path).state_dict(), small("naf").state_dict())


def test_a_restorer_is_uploaded_and_downloaded_alike(api, cache):
    restorer = restorers.small("naf")
    naf.hub.push_to_hub(restorer, "user/naf", commit_message="Denoiser")
    for name, content in api.sent["content"].items():
        (cache / name).write_bytes(content)
    for restored in (naf.hub.from_pretrained("user/naf"), naf.restoration.create("naf", weights="hf:user/naf")):
        assert same(restored.state_dict(), restorer.state_dict())
        assert restored.weights_source.endswith(COMMIT) or restored.weights_source == str(cache)


def test_a_name_that_no_repository_can_have_is_refused_before_anything_is_sent(api):
    with pytest.raises(ValueError, match="user//naf"):
        small("naf").push_to_hub("user//naf")
    with pytest.raises(TypeError, match="colour"):
        small("naf").push_to_hub("user/naf", colour="red")
    assert api.sent is None
