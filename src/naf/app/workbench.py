"""The web application's work without the web: photos in, pictures, figures and files out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch
from PIL import Image

from naf.app import answers, saving
from naf.app.analysis import (
    AttentionResult,
    BackboneResult,
    Cancelled,
    CoarseAnalysis,
    CompareResult,
    MethodResult,
    Report,
    SegmentsResult,
    Settings,
    SharpAnalysis,
    SimilarityResult,
    WorkbenchError,
    part,
    parts,
    silent,
)
from naf.app.cache import ByteCache
from naf.app.making import Maker, in_one_line, output_size
from naf.app.photo import Photo, PhotoError
from naf.pipeline import check_memory
from naf.registry import entry
from naf.upsamplers.checks import whole_number
from naf.visualization.pca import to_image

__all__ = [
    "AttentionResult",
    "BackboneResult",
    "Cancelled",
    "CoarseAnalysis",
    "CompareResult",
    "MethodResult",
    "Photo",
    "PhotoError",
    "Report",
    "SegmentsResult",
    "Settings",
    "SharpAnalysis",
    "SimilarityResult",
    "Workbench",
    "WorkbenchError",
]

MOST_COMPARED = 4


class Workbench:
    """Photos, the networks and what was made of them, for one server process. Threads may share it.

    One piece of heavy work runs at a time, so that time and memory are those of the piece; who asks for what is being
    made waits for it. Questions about a photo that has been analysed do not wait. What was made is kept as long as
    `cache_bytes` last.

    Photos larger than needed are reduced first (bilinear, antialiased): to `Settings.backbone_side` for the backbone,
    to the output size for the upsampler, which so sees an image of the size that it makes. Methods that wrap a
    backbone get twice `backbone_side`, if that is more, and the backbone in them sees at most that.

    Every failure is a ValueError whose message is one line, but for folders that cannot be written to.

    Args:
        device: where the networks run.
        weights: see :func:`naf.loading.load_upsampler`.
        max_pixels: most pixels of a photo.
        max_bytes: most bytes of a photo's file.
        cache_bytes: most memory of what is kept, networks not counted.
        backbone: of `defaults`. One that reads a folder or runs a repository's code can be asked for only if it is
            this one.

    Attributes:
        defaults: settings to begin with.
        device: as given.
        weights: as given.
        max_pixels: as given.
        max_bytes: as given.
    """

    def __init__(
        self,
        *,
        device: torch.device,
        weights: str = "auto",
        max_pixels: int = 40_000_000,
        max_bytes: int = 200 << 20,
        cache_bytes: int = 2 << 30,
        backbone: str = "auto",
    ) -> None:
        self.device, self.weights, self.max_pixels, self.max_bytes = device, weights, max_pixels, max_bytes
        self.defaults = Settings(backbone=backbone)
        self._maker = Maker(
            device, weights, backbone, max_pixels=max_pixels, max_bytes=max_bytes, cache_bytes=cache_bytes
        )

    @property
    def cache(self) -> ByteCache:
        """What is kept."""
        return self._maker.cache

    @property
    def upsamplers(self) -> list[str]:
        """Those that run by themselves, with learned weights first; featup-implicit must be fitted to each photo."""
        return self._maker.networks.names

    def is_untrained(self, upsampler: str) -> bool:
        """Whether there are no weights for it but random ones.

        Raises:
            ValueError: for an unknown name.
        """
        return self._maker.networks.is_untrained(upsampler)

    def open(self, path: Path, name: str = "") -> Photo:
        """Check a file and decode it.

        Args:
            path: the file; it has to stay while the photo is worked with.
            name: how to call it; empty for the file's own name.

        Raises:
            PhotoError: if it is no photo, too large or damaged.
        """
        return self._maker.open(path, name)

    def output_size(self, photo: Photo, settings: Settings) -> tuple[int, int]:
        """(Ho, Wo) for a photo: its aspect, the longer side as set.

        Raises:
            ValueError: for a side out of range.
        """
        return output_size(photo, settings)

    @torch.no_grad()
    def coarse(self, photo: Photo, settings: Settings, report: Report = silent) -> CoarseAnalysis:
        """What the backbone sees.

        Raises:
            ValueError: if it is not to be had or cannot run on this photo.
            Cancelled: as `report` raises it.
        """
        size = output_size(photo, settings)
        seen = self._maker.seen(photo, settings, report)
        shown = to_image(self._maker.image(photo, size))
        report(1.0, "features are there")
        common = {each.name: getattr(seen, each.name) for each in fields(BackboneResult)}
        return CoarseAnalysis(**common, output_size=size, picture=answers.squares(seen.cells, size), photo=shown)

    @torch.no_grad()
    def sharp(self, photo: Photo, settings: Settings, upsampler: str, report: Report = silent) -> SharpAnalysis:
        """What an upsampler makes of it.

        Raises:
            ValueError: if it cannot serve these features or memory is too small.
            Cancelled: as `report` raises it.
        """
        found = self._maker.sharp(photo, settings, upsampler, report)
        report(1.0, f"{upsampler}: done")
        return found

    @torch.no_grad()
    def result(self, photo: Photo, settings: Settings, upsampler: str, report: Report = silent) -> MethodResult:
        """As :meth:`sharp`, without what answers questions; it stays in the cache longer.

        Raises:
            ValueError: as :meth:`sharp`.
            Cancelled: as `report` raises it.
        """
        return self._maker.result(photo, settings, upsampler, report)

    @torch.no_grad()
    def similarity(
        self, photo: Photo, settings: Settings, upsampler: str, row: int, col: int, report: Report = silent
    ) -> SimilarityResult:
        """Cosine of every position with one, on the coarse and the upsampled features, in one colour scale.

        Args:
            photo: of :meth:`open`.
            settings: backbone and sizes.
            upsampler: name.
            row: of the output, 0 … Ho - 1.
            col: of the output, 0 … Wo - 1.
            report: told how far it is.

        Raises:
            ValueError: if the position lies outside, and as :meth:`sharp`.
            Cancelled: as `report` raises it.
        """
        row, col = _position(photo, settings, row, col)
        sharp = self.sharp(photo, settings, upsampler, report)
        with in_one_line(upsampler):
            return answers.similarity(self._maker.seen(photo, settings, silent), [sharp], row, col)[0]

    @torch.no_grad()
    def attention(
        self,
        photo: Photo,
        settings: Settings,
        upsampler: str,
        row: int,
        col: int,
        *,
        kernel_size: int | None = None,
        head: int | None = None,
        report: Report = silent,
    ) -> AttentionResult:
        """The weights of one output pixel over the photo.

        Args:
            photo: of :meth:`open`.
            settings: backbone and sizes.
            upsampler: name.
            row: of the output, 0 … Ho - 1.
            col: of the output, 0 … Wo - 1.
            kernel_size: odd; None for the method's own. Nothing is encoded again.
            head: 0 … heads - 1; None for the mean of all.
            report: told how far it is.

        Raises:
            ValueError: if the method has no such weights, the kernel size or the head is not there, the position lies
                outside, and as :meth:`sharp`.
            Cancelled: as `report` raises it.
        """
        row, col = _position(photo, settings, row, col)
        sharp = self.sharp(photo, settings, upsampler, report)
        seen, shown = self._maker.seen(photo, settings, silent), self._maker.image(photo, sharp.output_size)
        with in_one_line(upsampler):
            return answers.attention(shown, seen, sharp, row, col, kernel_size, head)

    @torch.no_grad()
    def segments(
        self, photo: Photo, settings: Settings, upsampler: str, k: int, report: Report = silent
    ) -> SegmentsResult:
        """k-means segments of the coarse features, found again in the upsampled ones.

        Args:
            photo: of :meth:`open`.
            settings: backbone and sizes.
            upsampler: name.
            k: number of segments, 2 … 20.
            report: told how far it is.

        Raises:
            ValueError: for another k, or more than the features have different positions, and as :meth:`sharp`.
            Cancelled: as `report` raises it.
        """
        whole_number("k", k, 2, 20)
        sharp = self.sharp(photo, settings, upsampler, part(report, 0, 0.7))
        with in_one_line("segments"):
            clusters = self._maker.clusters(photo, settings, k, part(report, 0.7, 0.8))
            report(0.8, f"{k} segments")
            return answers.segments(self._maker.seen(photo, settings, silent), sharp, clusters)

    @torch.no_grad()
    def compare(
        self, photo: Photo, settings: Settings, upsamplers: Sequence[str], report: Report = silent
    ) -> CompareResult:
        """Upsamplers side by side, with time and memory.

        Args:
            photo: of :meth:`open`.
            settings: backbone and sizes.
            upsamplers: one to four names. One that fails does not stop the others.
            report: told how far it is.

        Raises:
            ValueError: for another number of names, if the backbone fails, or all upsamplers do.
            Cancelled: as `report` raises it.
        """
        names = list(dict.fromkeys(upsamplers))
        if not 1 <= len(names) <= MOST_COMPARED:
            raise WorkbenchError(f"{len(names)} upsamplers are chosen, expected 1 to {MOST_COMPARED}")
        coarse = self.coarse(photo, settings, part(report, 0, 0.1))
        methods, failures = [], []
        for name, told in zip(names, parts(report, 0.1, 1, len(names)), strict=True):
            try:
                methods.append(self.result(photo, settings, name, told))
            except PhotoError:
                raise
            except ValueError as error:
                failures.append(str(error))
        if not methods:
            raise WorkbenchError("; ".join(failures))
        report(1.0, "side by side")
        return answers.comparison(photo, coarse, methods, failures, self.device)

    # Files ----------------------------------------------------------------------------------------------------------

    def save_picture(self, picture: Image.Image, photo: Photo, what: str, folder: Path) -> Path:
        """Write any picture made here as PHOTO_WHAT.png.

        Raises:
            OSError: if the folder cannot be written to.
        """
        return saving.save_picture(picture, folder, photo.name, what)

    def save_png(self, photo: Photo, settings: Settings, upsampler: str, folder: Path, report: Report = silent) -> Path:
        """Write the PCA colours of the upsampled features.

        Raises:
            ValueError: as :meth:`sharp`.
            OSError: if the folder cannot be written to.
            Cancelled: as `report` raises it.
        """
        found = self.result(photo, settings, upsampler, report)
        size = "x".join(map(str, found.output_size))
        return saving.save_picture(found.picture, folder, photo.name, found.backbone, upsampler, size)

    @torch.no_grad()
    def save_features(
        self, photo: Photo, settings: Settings, upsampler: str, folder: Path, report: Report = silent
    ) -> Path:
        """Write the upsampled features as safetensors, float16, with where they come from.

        Raises:
            ValueError: as :meth:`sharp`; also if the features are too large for memory or for float16.
            OSError: if the folder cannot be written to.
            Cancelled: as `report` raises it.
        """
        sharp = self.sharp(photo, settings, upsampler, part(report, 0, 0.5))
        seen = self._maker.seen(photo, settings, silent)
        with self._maker.turn(part(report, 0.5, 0.5)), in_one_line(upsampler):
            check_memory(sharp.output_size, 2 * seen.channels * sharp.picture.width * sharp.picture.height, _CPU)
            backbone = self._maker.networks.backbone(settings.backbone, settings.backbone_side)
            method = self._maker.networks.upsampler(upsampler, settings.backbone, settings.backbone_side)
            return saving.save_features(folder, photo, seen, sharp, backbone, method, part(report, 0.5, 1))

    @torch.no_grad()
    def save_report(
        self,
        photo: Photo,
        settings: Settings,
        upsamplers: Sequence[str],
        row: int | None,
        col: int | None,
        k: int | None,
        folder: Path,
        report: Report = silent,
    ) -> Path:
        """Write all that is known of a photo as one HTML file, which needs no other and asks for none.

        Args:
            photo: of :meth:`open`.
            settings: backbone and sizes.
            upsamplers: one to four names; the first that runs is looked at closely.
            row: of the chosen output pixel; None leaves out similarity and attention.
            col: likewise.
            k: number of segments; None leaves them out.
            folder: where to.
            report: told how far it is.

        Raises:
            ValueError: as the single answers do.
            OSError: if the folder cannot be written to.
            Cancelled: as `report` raises it.
        """
        from naf.app.report import Findings, write_report

        pixel = None if row is None or col is None else _position(photo, settings, row, col)
        compared = self.compare(photo, settings, upsamplers, part(report, 0, 0.6))
        names = [each.upsampler for each in compared.methods]
        similar: list[SimilarityResult] = []
        attended, segmented = None, None
        if pixel is not None:
            steps = zip(names, parts(report, 0.6, 0.8, len(names)), strict=True)
            sharps = (self.sharp(photo, settings, name, told) for name, told in steps)
            similar = answers.similarity(self._maker.seen(photo, settings, silent), sharps, *pixel)
            if entry(names[0]).cls.has_attention:
                attended = self.attention(photo, settings, names[0], *pixel, report=part(report, 0.8, 0.85))
        if k is not None:
            segmented = self.segments(photo, settings, names[0], k, part(report, 0.85, 0.95))
        report(0.95, "writing the report")
        coarse = self.coarse(photo, settings)
        findings = Findings(
            photo, settings, coarse, compared, tuple(similar), attended, segmented, self.device, self.weights
        )
        path = write_report(folder, findings)
        report(1.0, "done")
        return path


_CPU = torch.device("cpu")


def _position(photo: Photo, settings: Settings, row: int, col: int) -> tuple[int, int]:
    height, width = output_size(photo, settings)
    return whole_number("row", row, 0, height - 1), whole_number("col", col, 0, width - 1)
