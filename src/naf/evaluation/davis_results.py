"""Predicted masks as files in the official layout, `<folder>/<sequence>/00000.png`, and their scores."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from naf.data.atomic import replace_file
from naf.data.davis import DavisSet, Sequence, VideoError, pascal_palette, read_mask
from naf.evaluation.davis_metrics import ObjectScore, score_sequence


def result_paths(folder: Path, sequence: Sequence) -> list[Path]:
    """Where the masks of a sequence go, named as its frames."""
    return [folder / sequence.name / f"{frame.stem}.png" for frame in sequence.frames]


def write_results(folder: Path, sequence: Sequence, masks: np.ndarray) -> None:
    """Write the masks of a sequence as palette PNGs, each whole or not at all, the last one last.

    Args:
        folder: of all sequences; made if need be.
        sequence: that the masks are of.
        masks: (T, H, W) uint8. The first should be the true one.

    Raises:
        ValueError: if there are more or fewer masks than frames, or not of bytes.
        OSError: if they cannot be written.
    """
    if masks.ndim != 3 or len(masks) != len(sequence) or masks.dtype != np.uint8:
        raise ValueError(f"masks are {masks.dtype} {masks.shape}, expected uint8 ({len(sequence)}, H, W)")
    (folder / sequence.name).mkdir(parents=True, exist_ok=True)
    palette = pascal_palette()
    for path, mask in zip(result_paths(folder, sequence), masks, strict=True):
        image = Image.fromarray(mask)
        image.putpalette(palette)
        replace_file(path, partial(image.save, format="PNG"))


def has_results(folder: Path, sequence: Sequence) -> bool:
    """Whether all masks of a sequence are there."""
    return all(path.is_file() for path in result_paths(folder, sequence))


def score_results(folder: Path, sequence: Sequence) -> list[ObjectScore]:
    """Scores of the objects of one sequence, from its files; the first and last are not read.

    Raises:
        VideoError: naming the file, if one is missing, damaged, of another size, or has too high an index.
    """
    truth = [sequence.read_mask(index) for index in range(len(sequence))]
    masks = [np.zeros_like(mask) for mask in truth]
    for index, path in list(enumerate(result_paths(folder, sequence)))[1:-1]:
        masks[index] = read_mask(path, sequence.is_merged)
        if masks[index].shape != truth[index].shape:
            raise VideoError(f"{path}: has {masks[index].shape} pixels (rows, columns), expected {truth[index].shape}")
        if masks[index].max() > sequence.objects:
            raise VideoError(f"{path}: has object {masks[index].max()}, expected at most {sequence.objects}")
    return score_sequence(sequence.name, np.stack(truth), np.stack(masks), sequence.objects)


def score_folder(davis: DavisSet, folder: Path) -> list[ObjectScore]:
    """Scores of all objects of a set of videos, from anybody's results in the official layout.

    Raises:
        VideoError: naming the file, if one is missing, damaged, of another size, or has too high an index.
        ValueError: if a sequence has fewer than 3 frames.
    """
    return [score for sequence in davis.sequences for score in score_results(folder, sequence)]
