"""One video through label propagation: from the first mask to masks of all frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from naf.data.davis import VOID, Sequence
from naf.evaluation.propagation import propagate
from naf.evaluation.video_frames import VideoProtocol, label_grid


def propagate_sequence(
    sequence: Sequence, features_of: Callable[[int], Tensor], protocol: VideoProtocol, patch: int
) -> np.ndarray:
    """Masks of all frames of a video, given the first.

    Labels are propagated from the first frame and the last `context` predicted ones, as they are, soft.

    Args:
        sequence: the video.
        features_of: upsampled features of a frame, (C, h', w'), float, by index; called once a frame, in order.
            Features of another size than the label grid are resized to it, bilinear.
        protocol: settings.
        patch: of the backbone, pixels.

    Returns:
        (T, H, W) uint8 in the size of the video: indices of objects. The first is the true mask, unchanged.

    Raises:
        ValueError: if features have a wrong shape or are not finite, or the frames do not fit the patch.
        VideoError: if the first mask cannot be read.
    """
    first = sequence.read_mask(0)
    masks = np.empty((len(sequence), *first.shape), dtype=np.uint8)
    masks[0] = first
    for index, labels in _propagated(sequence, first, features_of, protocol, patch):
        masks[index] = labels_to_mask(labels, protocol.upsampling, patch, first.shape)
    return masks


def _propagated(
    sequence: Sequence, first: np.ndarray, features_of: Callable[[int], Tensor], protocol: VideoProtocol, patch: int
) -> Iterator[tuple[int, Tensor]]:
    """Indices and soft labels (K, h, w) of the frames behind the first."""
    grid = label_grid((first.shape[0], first.shape[1]), protocol, patch)
    features = _on_grid(features_of(0), grid, sequence, 0)
    start = features, mask_to_labels(first, sequence.objects, grid).to(features.device)
    recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=protocol.context)
    options = {"radius": protocol.radius, "topk": protocol.topk}
    for index in range(1, len(sequence)):
        features = _on_grid(features_of(index), grid, sequence, index)
        labels = propagate(features, [start, *recent], temperature=protocol.temperature, **options)
        recent.append((features, labels))
        yield index, labels


def mask_to_labels(mask: np.ndarray, objects: int, grid: tuple[int, int]) -> Tensor:
    """One-hot labels of a mask on a grid, (objects + 1, h, w) float32; void is background.

    Args:
        mask: (H, W) uint8.
        objects: how many there are.
        grid: (h, w), to which it is brought by nearest neighbour, as Pillow does.
    """
    known = Image.fromarray(np.where(mask == VOID, 0, mask).astype(np.uint8))
    small = torch.from_numpy(np.array(known.resize(grid[::-1], Image.Resampling.NEAREST)))
    return F.one_hot(small.long(), objects + 1).movedim(-1, 0).float()


def labels_to_mask(labels: Tensor, upsampling: int, patch: int, size: tuple[int, ...]) -> np.ndarray:
    """The mask of soft labels: at the size the backbone saw, each channel stretched to 0 … 1, largest wins, nearest.

    A channel that is the same everywhere cannot be stretched and stays as it is.

    Args:
        labels: (K, h, w) float.
        upsampling: factor that the labels' grid is finer by than the patches.
        patch: pixels.
        size: of the mask, (H, W).

    Returns:
        (H, W) uint8.
    """
    seen = [length * patch // upsampling for length in labels.shape[1:]]
    large = F.interpolate(labels[None], size=seen, mode="bilinear", align_corners=False)[0]
    low, high = large.flatten(1).aminmax(dim=1)
    low, span = low[:, None, None], (high - low)[:, None, None]
    stretched = torch.where(span > 0, (large - low) / span.where(span > 0, 1), large)
    winner = Image.fromarray(stretched.argmax(0).to(torch.uint8).cpu().numpy())
    return np.array(winner.resize((size[1], size[0]), Image.Resampling.NEAREST))


def _on_grid(features: Tensor, grid: tuple[int, int], sequence: Sequence, index: int) -> Tensor:
    if features.ndim != 3 or not features.is_floating_point():
        given = f"{features.dtype} {tuple(features.shape)}"
        raise ValueError(f"features of {sequence.frames[index]} are {given}, expected float (C, h, w)")
    if not features.isfinite().all():
        raise ValueError(f"features of {sequence.frames[index]} are not finite")
    if features.shape[1:] == grid:
        return features.detach()
    wide = features.detach().to(torch.promote_types(features.dtype, torch.float32))
    return F.interpolate(wide[None], size=grid, mode="bilinear", align_corners=False)[0]
