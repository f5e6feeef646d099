"""What is made of a photo: once, one piece at a time, and kept as long as memory for it lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from naf.app.analysis import (
    BackboneResult,
    Cancelled,
    MethodResult,
    Report,
    Settings,
    SharpAnalysis,
    WorkbenchError,
    part,
    silent,
)
from naf.app.cache import ByteCache, held_bytes
from naf.app.networks import ENLARGED, Networks, first_line, licence_of
from naf.app.photo import Photo, PhotoError, decode, read_header
from naf.app.saving import shown_name
from naf.benchmark.measure import measure
from naf.normalization import normalize
from naf.pipeline import check_memory
from naf.registry import entry
from naf.upsamplers.base import Guidance, Upsampler
from naf.upsamplers.checks import whole_number
from naf.upsamplers.cross_attention import CrossAttentionGuidance
from naf.upsamplers.extractor import resize_image
from naf.upsamplers.naf_guidance import NeighborhoodGuidance
from naf.visualization.pca import PCAColors
from naf.visualization.segments import Segments
from naf.visualization.view import FeatureView

LEAST_SIDE, LARGEST_SIDE = 16, 4096
"""Of the output and of what a backbone sees, pixels."""
_MAPS = 6  # full maps for which the cache must have room, if one shall be kept that need not be
_WAIT = 0.2  # seconds between two looks at whether who waits still wants to

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Encoded:
    """A guidance, the size of the image it was made of, and what its making took."""

    guidance: Guidance
    guide_size: tuple[int, int]
    seconds: float
    mib: float
    held_mib: float


class Maker:
    """Makes what :class:`naf.app.workbench.Workbench` answers from; arguments are explained there.

    Attributes:
        device: where the networks run.
        cache: what was made.
        networks: that make it. Used in turn only.
    """

    def __init__(
        self,
        device: torch.device,
        weights: str,
        backbone: str,
        *,
        max_pixels: int,
        max_bytes: int,
        cache_bytes: int,
    ) -> None:
        self.device = device
        self.cache = ByteCache(cache_bytes)
        self.networks = Networks(device, weights, backbone)
        self._limits = {"max_pixels": max_pixels, "max_bytes": max_bytes}
        self._turn = threading.RLock()
        self._reading = threading.RLock()  # photos are opened while networks work

    @contextmanager
    def turn(self, report: Report) -> Iterator[None]:
        """Alone at work; whoever waits is told so, and can leave."""
        while not self._turn.acquire(timeout=_WAIT):
            report(0.0, "waiting for other work to end")
        try:
            yield
        finally:
            self._turn.release()

    def _once(self, key: Hashable, make: Callable[[Report], T], report: Report) -> T:
        """What is kept under a key, or what `make` gives. A thread that asks meanwhile waits; `report` may raise."""
        return self._kept(key, lambda: make(report), self.turn(report))

    def _kept(self, key: Hashable, make: Callable[[], T], alone: AbstractContextManager[object]) -> T:
        found: T | None = self.cache.get(key)
        if found is not None:
            return found
        with alone:
            found = self.cache.get(key)
            if found is None:
                found = make()
                self.cache.put(key, found)
            return found

    # Photos ---------------------------------------------------------------------------------------------------------

    def open(self, path: Path, name: str) -> Photo:
        """Check a file and decode it."""
        name = shown_name(name or path.name)
        header = read_header(path, name, **self._limits)
        image = self._kept(("photo", header.key), lambda: decode(path, name), self._reading)
        return Photo(header.key, name, path, (image.shape[1], image.shape[2]), header.format)

    def image(self, photo: Photo, size: tuple[int, int] | None = None) -> Tensor:
        """The photo, (3, H, W) on the CPU, values from 0 to 1; as it is, or at a size."""
        if size is not None and size != photo.size:
            return self._kept(
                ("photo", photo.key, size),
                lambda: resize_image(self.image(photo)[None], size)[0].clamp(0, 1),
                self._reading,
            )

        def make() -> Tensor:
            if read_header(photo.path, photo.name, **self._limits).key != photo.key:
                raise PhotoError(f"{photo.name}: the file has changed: open it again")
            return decode(photo.path, photo.name)

        return self._kept(("photo", photo.key), make, self._reading)

    # Features -------------------------------------------------------------------------------------------------------

    def seen(self, photo: Photo, settings: Settings, report: Report) -> BackboneResult:
        """What the backbone sees."""
        side = whole_number("backbone_side", settings.backbone_side, LEAST_SIDE, LARGEST_SIDE)

        def make(told: Report) -> BackboneResult:
            told(0.0, f"loading backbone {settings.backbone}")
            backbone = self.networks.backbone(settings.backbone, side)
            told(0.4, f"{backbone.name} looks at the photo")
            image = self.image(photo).to(self.device)[None]
            with in_one_line(f"backbone {settings.backbone}"):
                with measure(self.device) as usage:
                    found = backbone.extract(image)
                features = found.features.float()
                if not features.isfinite().all():
                    raise ValueError("its features hold NaN or infinite values")
                colors, view = PCAColors.fit(features), FeatureView.of_map(features)
                view.norms()  # now, so that they are counted among what is kept
            return BackboneResult(
                name=backbone.name,
                note=backbone.note,
                channels=features.shape[1],
                grid=found.grid,
                input_size=found.input_size,
                seconds=usage.seconds,
                mib=usage.above_mib,
                features=found,
                colors=colors,
                view=view,
                cells=colors.image(features),
            )

        return self._once(("coarse", photo.key, settings.backbone, side), make, report)

    def sharp(self, photo: Photo, settings: Settings, upsampler: str, report: Report) -> SharpAnalysis:
        """What an upsampler makes of that."""
        self.networks.check_upsampler(upsampler)
        key = self._key(photo, settings, upsampler)
        return self._once(("sharp", *key), lambda told: self._make_sharp(photo, settings, upsampler, told), report)

    def result(self, photo: Photo, settings: Settings, upsampler: str, report: Report) -> MethodResult:
        """The same without what answers questions: it is small and stays longer."""
        found: MethodResult | None = self.cache.get(("result", *self._key(photo, settings, upsampler)))
        return found if found is not None else self.sharp(photo, settings, upsampler, report).result

    def clusters(self, photo: Photo, settings: Settings, k: int, report: Report) -> Segments:
        """k-means of the coarse features."""
        seen = self.seen(photo, settings, silent)
        key = "segments", photo.key, settings.backbone, settings.backbone_side, k
        # Fitted on the CPU; features of the device are held against them.
        return self._once(key, lambda _: Segments.fit(seen.features.features, k), report)

    def _make_sharp(self, photo: Photo, settings: Settings, upsampler: str, report: Report) -> SharpAnalysis:
        size = output_size(photo, settings)
        seen = self.seen(photo, settings, part(report, 0, 0.3))
        report(0.3, f"loading {upsampler}")
        method = self.networks.upsampler(upsampler, settings.backbone, settings.backbone_side)
        features = seen.features.features.float()
        with in_one_line(upsampler):
            check_memory(size, _map_bytes(seen, size), self.device)
            encoded = self._encoded(photo, settings, method, seen, part(report, 0.35, 0.6))
            report(0.6, f"{upsampler}: upsampling")
            guidance = encoded.guidance
            with measure(self.device) as usage:
                full = guidance.upsample(features)
            report(0.9, f"{upsampler}: colours")
            keeps_map = self._keeps_map(guidance, full)
            view = FeatureView.of_map(full)
            norms = view.norms()
            if not keeps_map:
                view = FeatureView.of_guidance(guidance, features, norms)
            picture = seen.colors.image(full)
        is_untrained = method.weights_source.startswith("untrained")
        is_neighborhood = isinstance(guidance, NeighborhoodGuidance)
        found = SharpAnalysis(
            upsampler=upsampler,
            backbone=seen.name,
            title=f"{upsampler} (untrained)" if is_untrained else upsampler,
            weights=method.weights_source,
            licence=licence_of(method),
            is_untrained=is_untrained,
            picture=picture,
            output_size=size,
            guide_size=encoded.guide_size,
            seconds=encoded.seconds + usage.seconds,
            mib=max(encoded.mib, encoded.held_mib + usage.above_mib),
            note=_note(method),
            view=view,
            guidance=guidance,
            features=full if keeps_map else None,
            rule=getattr(method, "neighborhood", None) if is_neighborhood else None,
            has_attention=entry(upsampler).cls.has_attention,
            kernel_size=getattr(method, "kernel_size", None) if is_neighborhood else None,
            heads=guidance.heads if isinstance(guidance, NeighborhoodGuidance) else 1,
        )
        self.cache.put(("result", *self._key(photo, settings, upsampler)), found.result)
        return found

    def _encoded(
        self, photo: Photo, settings: Settings, method: Upsampler, seen: BackboneResult, report: Report
    ) -> _Encoded:
        """The guidance, made once for all backbones that it serves."""
        about, size = entry(method.name), output_size(photo, settings)
        is_own = about.needs_backbone or about.channels_argument or "patch_size" in about.options
        owner = (settings.backbone, settings.backbone_side) if is_own else ()
        limit = max(settings.output_side, ENLARGED * settings.backbone_side if about.needs_backbone else 0)

        def make(told: Report) -> _Encoded:
            guide_size = _fit(photo.size, min(limit, max(photo.size)))
            check_memory(size, method.memory(guide_size, size) + _map_bytes(seen, size), self.device)
            told(0.0, f"{method.name}: encoding the photo")
            image = self.image(photo, guide_size).to(self.device)[None]
            with measure(self.device) as usage:
                guidance = method.encode(normalize(image), size, seen.grid)
            return _Encoded(guidance, guide_size, usage.seconds, usage.above_mib, held_bytes(guidance) / 2**20)

        return self._once(("guidance", photo.key, method.name, owner, size, seen.grid), make, report)

    def _keeps_map(self, guidance: Guidance, full: Tensor) -> bool:
        """Whether questions are answered from the full map: in a fifth of the time, if there is room for it."""
        # Heads pass through JAFAR and AnyUp too, but they make their keys again for each.
        is_lean = guidance.has_lean_head and not isinstance(guidance, CrossAttentionGuidance)
        return not is_lean or _MAPS * full.nbytes <= self.cache.limit

    @staticmethod
    def _key(photo: Photo, settings: Settings, upsampler: str) -> tuple[Hashable, ...]:
        return photo.key, settings.backbone, settings.backbone_side, upsampler, output_size(photo, settings)


def output_size(photo: Photo, settings: Settings) -> tuple[int, int]:
    """(Ho, Wo) for a photo: its aspect, the longer side as set.

    Raises:
        ValueError: for a side out of range.
    """
    return _fit(photo.size, whole_number("output_side", settings.output_side, LEAST_SIDE, LARGEST_SIDE))


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Whatever networks raise, as a WorkbenchError that names them."""
    try:
        yield
    except (Cancelled, WorkbenchError, PhotoError):
        raise
    except (MemoryError, ValueError, TypeError, RuntimeError) as error:
        line = first_line(error)
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in line:
            line = "memory is too small: choose a smaller output size"
        raise WorkbenchError(f"{what}: {line}") from error


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A size of the same aspect whose longer side is as given."""
    height, width = (max(1, round(each * side / max(size))) for each in size)
    return height, width


def _map_bytes(seen: BackboneResult, size: tuple[int, int]) -> int:
    return 4 * seen.channels * size[0] * size[1]


def _note(method: Upsampler) -> str:
    limit: Any = getattr(getattr(method, "backbone", None), "max_side", None)
    return "" if limit is None else f"the backbone saw at most {limit} pixels a side"
