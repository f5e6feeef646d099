"""Checkouts of authors' repositories, on tiny stand-ins that the tests write."""

import sys
import textwrap

import pytest
import torch
from torch import nn

from naf.benchmark.official import Checkout, Setting, copy_weights, named_module

SETTING = Setting(channels=8, side=16, grid=4, image_side=16)
CPU = torch.device("cpu")


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def official_of(checkout, method):
    return next(module for module in checkout.layout.modules if module.method == method)


@pytest.fixture(autouse=True)
def imports_are_left_as_they_were():
    path, names = sys.path[:], set(sys.modules)
    yield
    assert sys.path == path
    ours = {name for name in set(sys.modules) - names if name.startswith(("src", "utils", "upsamplers", "featup"))}
    assert not ours


def test_a_marker_file_tells_the_repository(tmp_path):
    checkout = Checkout(write(tmp_path / "clone", {"src/upsampler/jafar.py": ""}))
    assert checkout.name == checkout.layout.name == "PaulCouairon/JAFAR"
    other = Checkout(write(tmp_path / "mine", {"model.py": ""}))
    assert (other.name, other.layout) == ("mine", None)


def test_its_modules_are_importable_only_while_it_is_active(tmp_path):
    checkout = Checkout(write(tmp_path, {"src/answer.py": "VALUE = 42"}))
    with checkout.active():
        from src.answer import VALUE

        assert VALUE == 42
        assert sys.path[0] == str(tmp_path)
        first = sys.modules["src.answer"]
    assert not {"src", "src.answer"} & set(sys.modules)
    with checkout.active():
        assert sys.modules["src.answer"] is first  # not run a second time


def test_packages_of_one_name_are_kept_apart(tmp_path, monkeypatch):
    mine = type(sys)("src")
    monkeypatch.setitem(sys.modules, "src", mine)
    values = {}
    for name in ("one", "two"):
        checkout = Checkout(write(tmp_path / name, {"src/__init__.py": "", "src/which.py": f"NAME = {name!r}"}))
        with checkout.active():
            from src.which import NAME

            values[name] = NAME
    assert values == {"one": "one", "two": "two"}
    assert sys.modules["src"] is mine


def test_what_a_broken_module_leaves_is_removed(tmp_path):
    checkout = Checkout(write(tmp_path, {"src/fine.py": "", "src/broken.py": "import src.fine\nraise KeyError('no')"}))
    with pytest.raises(KeyError), checkout.active():
        import src.broken  # noqa: F401
    assert not [name for name in sys.modules if name.split(".")[0] == "src"]


def test_a_path_that_the_repository_adds_is_removed_with_its_modules(tmp_path):
    checkout = Checkout(
        write(
            tmp_path,
            {
                "src/main.py": f"import sys\nsys.path.append({str(tmp_path / 'vendor')!r})\nimport hidden_vendor",
                "vendor/hidden_vendor.py": "",
            },
        )
    )
    with checkout.active():
        import src.main  # noqa: F401

        assert "hidden_vendor" in sys.modules
    assert "hidden_vendor" not in sys.modules


def test_a_default_device_of_cuda_becomes_the_device_asked_for(tmp_path):
    files = {
        "utils/img.py": """
            import torch
            def coordinates(n, start=0, device="cuda"):
                return torch.arange(start, n, device=device)
        """,
        "src/upsampler/jafar.py": """
            from torch import nn
            from utils.img import coordinates
            class JAFAR(nn.Module):
                def __init__(self, v_dim):
                    super().__init__()
                    self.v_dim = v_dim
                def forward(self, image, features, output_size):
                    return coordinates(self.v_dim)
        """,
    }
    checkout = Checkout(write(tmp_path, files))
    module = checkout.build(official_of(checkout, "jafar"), SETTING, CPU)
    assert module(None, None, None).tolist() == list(range(8))


def test_building_leaves_the_global_generator_alone(tmp_path):
    text = """
        import torch
        torch.manual_seed(42)
        class Bilinear(torch.nn.Conv2d):
            def __init__(self):
                super().__init__(3, 3, 1)
    """
    checkout = Checkout(write(tmp_path, {"src/model/naf.py": "", "src/model/bilinear.py": text}))
    before = torch.get_rng_state()
    module = checkout.build(official_of(checkout, "bilinear"), SETTING, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert not module.training


# What each known repository must offer: arguments and call orders as its authors have them.
STAND_INS = {
    "jafar": {
        "src/upsampler/jafar.py": """
            from torch import nn
            from torch.nn.functional import interpolate
            class JAFAR(nn.Module):
                def __init__(self, input_dim=3, qk_dim=128, v_dim=384):
                    super().__init__()
                    self.width = v_dim
                def forward(self, image, features, output_size):
                    assert image.shape[1] == 3
                    assert features.shape[1] == self.width
                    return interpolate(features, output_size)
        """
    },
    "anyup": {
        "anyup/model.py": """
            from torch import nn
            from torch.nn.functional import interpolate
            class AnyUp(nn.Module):
                def forward(self, image, features, output_size=None, vis_attn=False, q_chunk_size=None):
                    assert image.shape[1] == 3
                    return interpolate(features, output_size)
        """
    },
    "loftup": {
        "upsamplers/layers.py": """
            from torch import nn
            class ChannelNorm(nn.LayerNorm):
                def forward(self, x):
                    return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        """,
        "upsamplers/upsamplers.py": """
            from torch import nn
            from torch.nn.functional import interpolate
            class LoftUp(nn.Module):
                def __init__(self, dim, lr_size=16, lr_pe_type="sine"):
                    super().__init__()
                    self.conv = nn.Conv2d(dim, dim, 1)
                def forward(self, lr_feats, img):
                    return interpolate(self.conv(lr_feats), img.shape[-2:])
            class UpsamplerwithChannelNorm(nn.Module):
                def __init__(self, upsampler, channelnorm):
                    super().__init__()
                    self.upsampler, self.channelnorm = upsampler, channelnorm
                def forward(self, lr_feats, img):
                    return self.upsampler(self.channelnorm(lr_feats), img)
        """,
    },
    "lift": {
        "lift.py": """
            from torch import nn
            from torch.nn.functional import interpolate
            class LiFT(nn.Module):
                def __init__(self, in_channels, patch_size, pre_shape, post_shape):
                    super().__init__()
                    assert not (pre_shape or post_shape)
                    self.patch_size = patch_size
                def forward(self, imgs, x):
                    assert imgs.shape[2] == self.patch_size * x.shape[2]
                    return interpolate(x, scale_factor=2)
        """
    },
    "featup": {
        "featup/layers.py": """
            from torch import nn
            class ChannelNorm(nn.Module):
                def __init__(self, dim):
                    super().__init__()
                    self.norm = nn.LayerNorm(dim)
                def forward(self, x):
                    return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        """,
        "featup/upsamplers.py": """
            from torch import nn
            from torch.nn.functional import interpolate
            class JBUStack(nn.Module):
                def __init__(self, feat_dim):
                    super().__init__()
                    self.fixup_proj = nn.Sequential(nn.Dropout2d(0.2), nn.Conv2d(feat_dim, feat_dim, 1))
                def forward(self, source, guidance):
                    return interpolate(self.fixup_proj(source), guidance.shape[-2:])
        """,
    },
}


@pytest.mark.parametrize("method", STAND_INS)
def test_each_known_repository_is_built_and_called_as_its_authors_do(tmp_path, method):
    checkout = Checkout(write(tmp_path, STAND_INS[method]))
    official = official_of(checkout, method)
    module = checkout.build(official, SETTING, CPU)
    image, features = torch.rand(1, 3, 16, 16), torch.rand(1, 8, 4, 4)
    assert official.call(module, image, features, SETTING.size).shape == (1, 8, 16, 16)
    if method == "featup":  # the names of the published weights
        assert {"model.1.norm.weight", "upsampler.fixup_proj.1.weight"} <= module.state_dict().keys()


@pytest.mark.parametrize("method", ["naf", "jafar", "featup", "jbu", "jbf", "bilinear", "nearest"])
def test_nafs_repository_has_the_peers_too(tmp_path, method):
    text = """
        from torch import nn
        class Any(nn.Module):
            def __init__(self, **config):
                super().__init__()
                self.config = config
        NAF = JAFAR = FeatUp = JBU = JBF = Bilinear = Nearest = Any
    """
    names = ("naf", "jafar", "featup", "jbu", "jbf", "bilinear", "nearest")
    checkout = Checkout(write(tmp_path, {f"src/model/{name}.py": text for name in names}))
    module = checkout.build(official_of(checkout, method), SETTING, CPU)
    assert module.config == {"jafar": {"v_dim": 8}, "featup": {"feature_dim": 8, "ratio": 4}}.get(method, {})


def test_a_named_module_gets_the_arguments_that_it_knows(tmp_path):
    text = """
        from torch import nn
        class Net(nn.Module):
            def __init__(self, width=1, depth=2):
                super().__init__()
                self.sizes = width, depth
    """
    checkout = Checkout(write(tmp_path, {"package/net.py": text}))
    assert checkout.holds("package.net:Net")
    assert not checkout.holds("package.other:Net")
    module = checkout.build(named_module("jafar", "package.net:Net", {"width": 8, "v_dim": 8}), SETTING, CPU)
    assert module.sizes == (8, 2)


def test_weights_are_copied_where_names_agree_after_renaming():
    ours, theirs = nn.ModuleDict({"a": nn.Linear(2, 3)}), nn.ModuleDict({"b": nn.Linear(2, 3)})
    assert copy_weights(ours, theirs, lambda state: {f"a{key[1:]}": value for key, value in state.items()})
    assert torch.equal(theirs["b"].weight, ours["a"].weight)
    assert torch.equal(theirs["b"].bias, ours["a"].bias)


@pytest.mark.parametrize("other", [{"a": nn.Linear(2, 4)}, {"b": nn.Linear(2, 3)}, {}])
def test_other_names_or_shapes_leave_the_official_weights_alone(other):
    theirs = nn.ModuleDict(other)
    before = {key: value.clone() for key, value in theirs.state_dict().items()}
    assert not copy_weights(nn.ModuleDict({"a": nn.Linear(2, 3)}), theirs, lambda state: state)
    assert all(torch.equal(value, before[key]) for key, value in theirs.state_dict().items())
