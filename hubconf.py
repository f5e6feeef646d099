"""torch.hub entries: ``torch.hub.load("OWNER/REPOSITORY", "naf", pretrained=True, device="cpu")``.

Every entry returns the upsampler in evaluation mode; further keywords go to its constructor.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

import naf as _naf

dependencies = ["torch", "numpy", "PIL", "safetensors"]


def _create(name: str, pretrained: bool, device: str, config: dict[str, Any]) -> _naf.Upsampler:
    return _naf.create(name, weights="official" if pretrained else None, **config).to(device)


def naf(pretrained: bool = True, device: str = "cpu", **config: Any) -> _naf.Upsampler:
    """NAF; pretrained downloads the authors' release and checks its hash."""
    return _create("naf", pretrained, device, config)


def naf_plus_plus(pretrained: bool = False, device: str = "cpu", **config: Any) -> _naf.Upsampler:
    """NAF++ (768 channels, 5 blocks a branch); its weights are not released, so pretrained=True raises."""
    return _create("naf++", pretrained, device, config)


def nearest(pretrained: bool = False, device: str = "cpu") -> _naf.Upsampler:
    """Nearest cell; nothing to be pretrained."""
    return _interpolation("nearest", pretrained, device)


def bilinear(pretrained: bool = False, device: str = "cpu") -> _naf.Upsampler:
    """Bilinear; nothing to be pretrained."""
    return _interpolation("bilinear", pretrained, device)


def bicubic(pretrained: bool = False, device: str = "cpu") -> _naf.Upsampler:
    """Bicubic; nothing to be pretrained."""
    return _interpolation("bicubic", pretrained, device)


def lanczos(pretrained: bool = False, device: str = "cpu") -> _naf.Upsampler:
    """Lanczos; nothing to be pretrained."""
    return _interpolation("lanczos", pretrained, device)


def _interpolation(name: str, pretrained: bool, device: str) -> _naf.Upsampler:
    del pretrained  # accepted so that every entry is called alike
    return _naf.create(name).to(device)
