"""torch.hub entries: ``torch.hub.load("OWNER/REPOSITORY", "naf", pretrained=True, device="cpu")``.

Every entry returns the upsampler in evaluation mode; further keywords go to its constructor. Where a method has one
release for each backbone, `release` names it (``release="vit_small_patch14_dinov2"``); the error lists them.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

import naf as _naf

dependencies = ["torch", "numpy", "PIL", "safetensors"]


def _create(
    name: str, pretrained: bool, device: str, config: dict[str, Any], release: str | None = None
) -> _naf.Upsampler:
    weights = "official" if release is None else f"official:{release}"
    return _naf.create(name, weights=weights if pretrained else None, **config).to(device)


def naf(pretrained: bool = True, device: str = "cpu", **config: Any) -> _naf.Upsampler:
    """NAF; pretrained downloads the authors' release and checks its hash."""
    return _create("naf", pretrained, device, config)


def naf_plus(pretrained: bool = True, device: str = "cpu", **config: Any) -> _naf.Upsampler:
    """NAF with one attention head and coordinates in coarse cells; pretrained=True takes this project's weights."""
    return _naf.create("naf+", weights="embedded" if pretrained else None, **config).to(device)


def naf_plus_plus(pretrained: bool = False, device: str = "cpu", **config: Any) -> _naf.Upsampler:
    """NAF++ (768 channels, 5 blocks a branch); its weights are not released, so pretrained=True raises."""
    return _create("naf++", pretrained, device, config)


def jafar(pretrained: bool = True, device: str = "cpu", release: str | None = None, **config: Any) -> _naf.Upsampler:
    """JAFAR; one release for each backbone."""
    return _create("jafar", pretrained, device, config, release)


def anyup(pretrained: bool = True, device: str = "cpu", release: str = "anyup", **config: Any) -> _naf.Upsampler:
    """AnyUp; releases "anyup" (the paper's) and "anyup_multi_backbone"."""
    return _create("anyup", pretrained, device, config, release)


def loftup(pretrained: bool = True, device: str = "cpu", release: str | None = None, **config: Any) -> _naf.Upsampler:
    """LoftUp; one release for each backbone."""
    return _create("loftup", pretrained, device, config, release)


def featup(pretrained: bool = True, device: str = "cpu", release: str | None = None, **config: Any) -> _naf.Upsampler:
    """FeatUp's stack of joint bilateral upsamplers; one release for each backbone, with norm or without."""
    return _create("featup", pretrained, device, config, release)


def lift(pretrained: bool = False, device: str = "cpu", release: str | None = None, **config: Any) -> _naf.Upsampler:
    """LiFT; its releases must be fetched by hand, the error says where."""
    return _create("lift", pretrained, device, config, release)


def jbu(pretrained: bool = False, device: str = "cpu", **config: Any) -> _naf.Upsampler:
    """Learned joint bilateral upsampling; no weights are released, so pretrained=True raises."""
    return _create("jbu", pretrained, device, config)


def featsharp(backbone: Any, pretrained: bool = False, device: str = "cpu", **config: Any) -> _naf.Upsampler:
    """FeatSharp around a backbone; no weights are released, so pretrained=True raises."""
    return _create("featsharp", pretrained, device, {"backbone": backbone, **config})


def featup_implicit(pretrained: bool = False, device: str = "cpu", **config: Any) -> _naf.Upsampler:
    """FeatUp's implicit upsampler, to be fitted to an image; nothing to be pretrained."""
    return _plain("featup-implicit", pretrained, device, config)


def large_image(backbone: Any, pretrained: bool = False, device: str = "cpu") -> _naf.Upsampler:
    """The baseline that feeds the backbone a larger image; nothing to be pretrained."""
    return _plain("large-image", pretrained, device, {"backbone": backbone})


def jbf(pretrained: bool = False, device: str = "cpu", **config: Any) -> _naf.Upsampler:
    """Gaussian joint bilateral filter; nothing to be pretrained."""
    return _plain("jbf", pretrained, device, config)


def guided(pretrained: bool = False, device: str = "cpu", **config: Any) -> _naf.Upsampler:
    """Guided image filter; nothing to be pretrained."""
    return _plain("guided", pretrained, device, config)


def nearest(pretrained: bool = False, device: str = "cpu") -> _naf.Upsampler:
    """Nearest cell; nothing to be pretrained."""
    return _plain("nearest", pretrained, device, {})


def bilinear(pretrained: bool = False, device: str = "cpu") -> _naf.Upsampler:
    """Bilinear; nothing to be pretrained."""
    return _plain("bilinear", pretrained, device, {})


def bicubic(pretrained: bool = False, device: str = "cpu") -> _naf.Upsampler:
    """Bicubic; nothing to be pretrained."""
    return _plain("bicubic", pretrained, device, {})


def lanczos(pretrained: bool = False, device: str = "cpu") -> _naf.Upsampler:
    """Lanczos; nothing to be pretrained."""
    return _plain("lanczos", pretrained, device, {})


def _plain(name: str, pretrained: bool, device: str, config: dict[str, Any]) -> _naf.Upsampler:
    del pretrained  # accepted so that every entry is called alike
    return _naf.create(name, weights=None, **config).to(device)
