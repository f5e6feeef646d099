"""Published weight files, one frozen record each.

Facts from the authors' repositories. A publisher that states no hash gives `sha256=None`: the hash of the first
download is then kept beside the file, and every later use is checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Release:
    """A published weight file.

    Attributes:
        upsampler: registered name of the method.
        name: of the release, as in `weights="official:NAME"`.
        url: https address.
        licence: as its publisher states it.
        paper: what to cite.
        trained_on: data and backbone.
        channels: of the features it serves, None for any.
        config: constructor arguments that it needs.
        normalization: of the image it expects.
        size: bytes, None where not known.
        sha256: of the whole file, None where the publisher states none.
        file: name in the cache where the address does not end in a telling one.
        is_manual: whether the address is a page from which a person must fetch the file.
    """

    upsampler: str
    name: str
    url: str
    licence: str
    paper: str
    trained_on: str
    channels: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    normalization: str = "ImageNet mean and standard deviation"
    size: int | None = None
    sha256: str | None = None
    file: str = ""
    is_manual: bool = False

    @property
    def path(self) -> Path:
        """Where the file lies once downloaded: the torch hub cache."""
        return Path(torch.hub.get_dir()) / "checkpoints" / (self.file or self.url.rsplit("/", 1)[-1])


_JAFAR = "https://github.com/PaulCouairon/JAFAR/releases/download/Weights/"
_ANYUP = "https://github.com/wimmerth/anyup/releases/download/"
_FEATUP = "https://marhamilresearch4.blob.core.windows.net/feature-upsampling-public/pretrained/"


def _jafar(name: str, backbone: str, channels: int) -> Release:
    return Release(
        upsampler="jafar",
        name=name,
        url=f"{_JAFAR}{name}.pth",
        licence="Apache-2.0",
        paper="arXiv 2506.11136",
        trained_on=f"ImageNet, {backbone}",
        channels=channels,
        config={"v_dim": channels},
        normalization="mean and standard deviation of the backbone",
        file=f"jafar_{name}.pth",
    )


def _loftup(name: str, backbone: str, channels: int) -> Release:
    return Release(
        upsampler="loftup",
        name=name,
        url=f"https://huggingface.co/haiwen/loftup-{name}/resolve/main/pytorch_model.bin",
        licence="MIT",
        paper="arXiv 2504.14032",
        trained_on=f"SA-1B (1 M images), {backbone}",
        channels=channels,
        config={"dim": channels},
        file=f"loftup_{name}.bin",
    )


def _featup(name: str, backbone: str, channels: int, *, use_norm: bool) -> Release:
    folder = "" if use_norm else "no_norm/"
    suffix = "" if use_norm else "_no_norm"
    return Release(
        upsampler="featup",
        name=f"{name}{suffix}",
        url=f"{_FEATUP}{folder}{name}_jbu_stack_cocostuff.ckpt",
        licence="MIT",
        paper="arXiv 2403.10516",
        trained_on=f"COCO-Stuff, {backbone}",
        channels=channels,
        config={"feat_dim": channels, "use_norm": use_norm},
        file=f"featup_{name}{suffix}.ckpt",
    )


def _lift(name: str, backbone: str, channels: int, patch_size: int) -> Release:
    return Release(
        upsampler="lift",
        name=name,
        url="https://drive.google.com/drive/folders/12Q8n_vur3njOgAO1iu0P6tDIcszrnadd",
        licence="MIT",
        paper="arXiv 2403.14625",
        trained_on=f"ImageNet, keys of the last layer of {backbone}",
        channels=channels,
        config={"in_channels": channels, "patch_size": patch_size},
        file=f"lift_{name}.pth",
        is_manual=True,
    )


_FEATUP_BACKBONES = (
    ("dino16", "DINO ViT-S/16", 384),
    ("dinov2", "DINOv2 ViT-S/14", 384),
    ("clip", "CLIP ViT-B/16", 512),
    ("vit", "ViT-S/16 (timm vit_small_patch16_224)", 384),
    ("resnet50", "ResNet-50 (torchvision), layer features", 2048),
)

RELEASES: Sequence[Release] = (
    Release(
        upsampler="naf",
        name="naf",
        url="https://github.com/valeoai/NAF/releases/download/model/naf_release.pth",
        licence="Apache-2.0",
        paper="arXiv 2511.18452",
        trained_on="ImageNet, DINOv3 ViT-B/16",
        # What the shapes of its tensors do not tell.
        config={"heads_attn": 4, "interleave": False, "encoder": "dual", "key_pooling": "average", "position": "rope"},
        size=2_664_431,
        sha256="c096c1ab2217a5c3ac136365f721685e2201379cb69d509cfb0261183847c98f",
    ),
    # The README's table exchanges the labels of the first two; file names are followed here.
    _jafar("vit_base_patch16_224.dino", "DINO ViT-B/16", 768),
    _jafar("vit_base_patch16_224", "ViT-B/16, supervised", 768),
    _jafar("vit_small_patch14_dinov2.lvd142m", "DINOv2 ViT-S/14", 384),
    _jafar("vit_base_patch14_dinov2.lvd142m", "DINOv2 ViT-B/14", 768),
    _jafar("vit_small_patch14_reg4_dinov2", "DINOv2 ViT-S/14 with registers", 384),
    _jafar("vit_base_patch16_clip_384", "CLIP ViT-B/16", 768),
    _jafar("vit_base_patch16_siglip_512.v2_webli", "SigLIP 2 ViT-B/16", 768),
    Release(
        upsampler="anyup",
        name="anyup",
        url=f"{_ANYUP}checkpoint/anyup_paper.pth",
        licence="CC-BY-4.0",
        paper="arXiv 2510.12764",
        trained_on="ImageNet, DINOv2 ViT-S/14",
    ),
    Release(
        upsampler="anyup",
        name="anyup_multi_backbone",
        url=f"{_ANYUP}checkpoint_v2/anyup_multi_backbone.pth",
        licence="CC-BY-4.0",
        paper="arXiv 2510.12764",
        trained_on="ImageNet, DINOv2-S, DINOv2-R-S, CLIP-B, SigLIP2-B, supervised ViT-B",
    ),
    _lift("dino_vits16", "DINO ViT-S/16", 384, 16),
    _lift("dino_vits8", "DINO ViT-S/8", 384, 8),
    _lift("dino_vitb16", "DINO ViT-B/16", 768, 16),
    _lift("dino_vitb8", "DINO ViT-B/8", 768, 8),
    _lift("vit_small_patch16", "ViT-S/16, supervised (image mean and deviation 0.5)", 384, 16),
    _loftup("dinov2s", "DINOv2 ViT-S/14", 384),
    _loftup("dinov2s_reg", "DINOv2 ViT-S/14 with registers", 384),
    _loftup("dinov2b", "DINOv2 ViT-B/14", 768),
    _loftup("dinov2b_reg", "DINOv2 ViT-B/14 with registers", 768),
    _loftup("clip", "CLIP ViT-B/16", 512),
    _loftup("siglip", "SigLIP ViT-B/16", 768),
    _loftup("siglip2", "SigLIP 2 ViT-B/16", 768),
    *(_featup(*backbone, use_norm=True) for backbone in _FEATUP_BACKBONES),
    *(_featup(*backbone, use_norm=False) for backbone in (*_FEATUP_BACKBONES, ("maskclip", "MaskCLIP ViT-B/16", 512))),
)


def releases_of(upsampler: str | None = None) -> list[Release]:
    """Every release of a method, or of all."""
    return [release for release in RELEASES if upsampler in (None, release.upsampler)]


def find_release(upsampler: str, name: str) -> Release | None:
    """A release by its name, or by the part before the dot where that is unique ("vit_small_patch14_dinov2")."""
    known = releases_of(upsampler)
    exact = [release for release in known if release.name == name]
    short = [release for release in known if release.name.partition(".")[0] == name]
    if exact:
        return exact[0]
    return short[0] if len(short) == 1 else None


def channels_of_releases(upsampler: str) -> str:
    """Which releases a method has, by channel count, as the end of an error message; empty where it has none."""
    known = [release for release in releases_of(upsampler) if release.channels is not None]
    if not known:
        return ""
    return ". Releases: " + ", ".join(f"official:{release.name} ({release.channels})" for release in known)
