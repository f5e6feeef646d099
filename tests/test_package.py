"""The package as a whole: imports, layers, public names, torch.hub entries."""

import ast
import importlib
import importlib.util
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import naf
from tests.helpers import config_of, randn

ROOT = Path(__file__).parents[1]
PACKAGE = Path(naf.__file__).parent
HAS_TRITON = importlib.util.find_spec("triton") is not None
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], "naf.")
    if HAS_TRITON or not module.name.endswith(("_triton", "_triton_kernels"))
)
HEAVY = [
    *("timm", "torchvision", "skimage", "scipy", "matplotlib", "typer", "rich", "zarr", "av"),
    *("gradio", "lightning", "hydra", "transformers", "huggingface_hub"),
]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_every_module_imports(name):
    assert importlib.import_module(name).__name__ == name


def test_import_naf_pulls_in_no_heavy_dependency():
    # Against what torch itself imports.
    code = "import json, sys, torch; old = set(sys.modules); import naf; print(json.dumps([*set(sys.modules) - old]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.split(".")[0] for name in json.loads(result.stdout)}
    assert "naf" in imported
    assert imported.isdisjoint(HEAVY)
    assert result.stderr == ""


@pytest.mark.parametrize("name", ["naf", *[name for name in MODULES if not name.endswith("__main__")]])
def test_public_names_exist(name):
    module = importlib.import_module(name)
    public = getattr(module, "__all__", [])
    assert len(set(public)) == len(public)
    assert all(hasattr(module, each) for each in public)


def test_the_public_interface_is_there():
    for name in (
        "create",
        "list_upsamplers",
        "load_checkpoint",
        "normalize",
        "backbones",
        "WeightsError",
        "__version__",
    ):
        assert name in naf.__all__


def imports(path):
    """Absolute names of the modules that a file imports, wherever the statement stands."""
    found = set()
    package = ["naf", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return found


def naf_parts(path):
    """Parts of the package that a file imports: "ops", "registry", …"""
    return {name.split(".")[1] for name in imports(path) if name.startswith("naf.")}


def files_of(part):
    return sorted((PACKAGE / part).rglob("*.py"))


def test_ops_import_nothing_of_ours_but_ops():
    files = files_of("ops")
    assert files
    for path in files:
        assert naf_parts(path) <= {"ops"}, path.name
        assert "naf" not in imports(path), path.name


def test_upsamplers_know_nothing_of_the_layers_above():
    files = files_of("upsamplers")
    assert files
    for path in files:
        assert naf_parts(path).isdisjoint({"cli", "benchmark", "visualization", "backbones", "data"}), path.name


def test_nothing_but_the_command_line_imports_the_command_line():
    for path in sorted(PACKAGE.rglob("*.py")):
        if "cli" not in path.relative_to(PACKAGE).parts and path.name != "__main__.py":
            assert "cli" not in naf_parts(path), path.name


def test_only_the_interface_of_the_application_knows_gradio():
    know = {path.name for path in files_of("app") if any(name.split(".")[0] == "gradio" for name in imports(path))}
    assert "interface.py" in know
    assert know.isdisjoint(
        {"workbench.py", "making.py", "answers.py", "analysis.py", "cache.py", "photo.py", "report.py"}
    )
    for path in files_of("app"):
        assert naf_parts(path).isdisjoint({"training", "evaluation"}), path.name


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_names_are_listed_in_order():
    names = naf.list_upsamplers()
    assert names == sorted(set(names))
    assert {"naf", "naf++", "nearest", "bilinear", "bicubic", "lanczos"} <= set(names)


# torch.hub ----------------------------------------------------------------------------------------------------------

HUB_NAMES = {name: name.replace("+", "_plus").replace("-", "_") for name in naf.list_upsamplers()}
HUB_ENTRIES = sorted(HUB_NAMES.values())


def hub_load(name, **options):
    return torch.hub.load(str(ROOT), name, source="local", **options)


def hub_parameters(name):
    listed = torch.hub._import_module("hubconf", ROOT / "hubconf.py")
    assert getattr(listed, name).__doc__
    return inspect.signature(getattr(listed, name)).parameters


def test_torch_hub_lists_every_upsampler():
    listed = torch.hub._import_module("hubconf", ROOT / "hubconf.py")
    assert (
        sorted(key for key in vars(listed) if inspect.isfunction(getattr(listed, key)) and key[0] != "_") == HUB_ENTRIES
    )


@pytest.mark.parametrize("name", HUB_ENTRIES)
def test_hub_entries_have_the_official_signature(name):
    parameters = hub_parameters(name)
    assert [key for key in parameters if key != "backbone"][:2] == ["pretrained", "device"]
    assert isinstance(parameters["pretrained"].default, bool)
    assert parameters["device"].default == "cpu"


@pytest.mark.parametrize("name", HUB_ENTRIES)
def test_torch_hub_gives_every_upsampler_ready_for_use(name):
    registered = next(key for key, value in HUB_NAMES.items() if value == name)
    upsampler = hub_load(name, pretrained=False, device="cpu", **config_of(registered))
    assert isinstance(upsampler, naf.Upsampler)
    assert upsampler.name == registered
    assert not upsampler.training
    if upsampler.fits_one_image:
        return
    with torch.no_grad():
        out = upsampler(randn(1, 3, 12, 15), randn(1, 8, 4, 5), (12, 15))
    assert out.shape == (1, 8, 12, 15)


@pytest.mark.parametrize("name", ["jafar", "loftup", "featup", "lift"])
def test_torch_hub_asks_which_release_is_meant(name):
    with pytest.raises(naf.WeightsError, match=f"'{name}' has one release for each backbone"):
        hub_load(name, pretrained=True)


def test_torch_hub_moves_the_upsampler_to_the_device():
    upsampler = hub_load("naf", pretrained=False, device="meta", dim=32)
    assert {parameter.device.type for parameter in upsampler.parameters()} == {"meta"}
