"""The folder beside a video in the making: what is finished stays, and a later run goes on there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from naf.data.atomic import replace_file

_HASH_LENGTH = 64


class WorkFolder:
    """Settings, small tensors and finished segments of one video; lies at `TARGET.partial`.

    Nothing is on disk before :meth:`open`.

    Args:
        target: path of the video.

    Attributes:
        path: of the folder.
        whole: where all segments are put together.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.partial")
        self.whole = self.path / "whole.mp4"
        self._settings, self._tensors = self.path / "settings.json", self.path / "colors.safetensors"

    def open(self, settings: Mapping[str, str], *, overwrite: bool = False) -> None:
        """Make the folder, or find the one of an earlier run.

        Args:
            settings: all that decides the pictures. A run goes on only with the same.
            overwrite: a folder of other settings is emptied; one of the same is gone on with all the same.

        Raises:
            ValueError: if the folder is of another run, or is no work folder.
        """
        found = self._read_settings()
        if found is not None and found != settings:
            if not overwrite:
                raise ValueError(
                    f"{self.path} was begun with other settings ({_difference(found, settings)}): go on with those, "
                    "choose another name, or begin anew by overwrite (--overwrite)"
                )
            self.remove()
        self.path.mkdir(parents=True, exist_ok=True)
        if found != settings:
            text = json.dumps(dict(settings), indent=1, ensure_ascii=False)
            replace_file(self._settings, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def load(self) -> dict[str, Tensor] | None:
        """The tensors that were kept, or None."""
        return load_file(self._tensors) if self._tensors.exists() else None

    def keep(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors for later runs."""
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        replace_file(self._tensors, lambda temporary: save_file(kept, temporary))

    def segment(self, number: int) -> Path:
        """Where a segment goes, counted from 0."""
        return self.path / f"{number:06d}.mp4"

    @property
    def finished(self) -> int:
        """Number of segments, from the first on, that are there."""
        number = 0
        while self.segment(number).exists():
            number += 1
        return number

    def remove(self) -> None:
        """Delete what is ours, and the folder if nothing else is in it."""
        for file in (*self.path.glob("*.mp4"), *self.path.glob(".*.partial"), self._tensors, self._settings):
            file.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def _read_settings(self) -> dict[str, str] | None:
        if not self._settings.exists():
            is_ours = self.path.is_dir() and all(file.match(".*.partial") for file in self.path.iterdir())
            if self.path.exists() and not is_ours:
                raise ValueError(
                    f"{self.path} is in the way and no work folder of ours: move it, or choose another name"
                )
            return None
        try:
            return {str(key): str(value) for key, value in json.loads(self._settings.read_text("utf-8")).items()}
        except (ValueError, AttributeError):
            return {}


def _difference(found: Mapping[str, str], settings: Mapping[str, str]) -> str:
    """What has changed, in words; hashes are not shown."""
    changed = []
    for key in sorted({*found, *settings}):
        old, new = found.get(key, "none"), settings.get(key, "none")
        if old != new:
            is_hash = _HASH_LENGTH in (len(old), len(new))
            changed.append(f"other {key}" if is_hash else f"{key} {old!r}, now {new!r}")
    return "; ".join(changed)
