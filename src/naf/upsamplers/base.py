"""The contract of every upsampler: image, features and output size in, sharp features out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.releases import channels_of_releases
from naf.upsamplers.checks import check_channels, check_finite, check_map, pair_of_sizes, whole_number
from naf.weight_record import WeightRecord

Positions = Sequence[float] | Tensor

MEMORY_BUDGET = 2 << 30
"""Bytes that encoding a whole image may take where a method can also do it in bands."""


class Attention(NamedTuple):
    """Attention of one output pixel.

    Attributes:
        weights: (B, heads, kh, kw), non-negative, summing to one over the cells.
        rows: coarse rows of the cells, (kh,).
        cols: coarse columns of the cells, (kw,). A row or column that occurs twice counts twice.
    """

    weights: Tensor
    rows: Tensor
    cols: Tensor


class Guidance(ABC):
    """What a method derives from the image and the two grids alone; serves any number of feature maps.

    Attributes:
        batch: number of images, or None where the image does not matter.
        grid: coarse grid (h, w) of the features it serves.
        output_size: output grid (Ho, Wo).
        channels: of the features it serves, or None for any.
        hint: what to say where the features have another number of channels.
        device: of the image, or None where the image does not matter.
    """

    channels: int | None = None
    hint: str = ""
    device: torch.device | None = None

    def __init__(self, batch: int | None, grid: tuple[int, int], output_size: tuple[int, int]) -> None:
        self.batch, self.grid, self.output_size = batch, grid, output_size

    @property
    def has_lean_head(self) -> bool:
        """Whether :meth:`upsample_linear` has a form of its own, which need not make the full map."""
        return type(self)._upsample_linear is not Guidance._upsample_linear

    def upsample(self, features: Tensor) -> Tensor:
        """Features on the output grid.

        Args:
            features: (B, C, h, w), any float dtype; NaN reaches the pixels whose neighborhood holds it.

        Returns:
            (B, C, Ho, Wo), dtype of the features.

        Raises:
            TypeError: for non-float features.
            ValueError: for features of another batch or grid.
        """
        self._check_features(features)
        return self._upsample(features)

    def upsample_linear(self, features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """A per-pixel linear head on the upsampled features, which need not be made where the method is linear.

        Args:
            features: (B, C, h, w).
            weight: head, (K, C) or (K, C, 1, 1).
            bias: (K,) or None.

        Returns:
            (B, K, Ho, Wo), dtype of the features: equal to the head applied to `upsample(features)`, up to rounding,
            which is that of float32 or better.

        Raises:
            ValueError: if features, weight and bias do not fit each other.
        """
        self._check_features(features)
        channels = features.shape[1]
        if not isinstance(weight, Tensor):
            raise TypeError(f"weight is a {type(weight).__name__}, expected a torch.Tensor of shape (K, {channels})")
        if weight.ndim == 4 and weight.shape[2:] == (1, 1):
            weight = weight[:, :, 0, 0]
        if weight.ndim != 2 or weight.shape[1] != channels or not len(weight):
            raise ValueError(f"weight has shape {tuple(weight.shape)}, expected (K, {channels}): one column a channel")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"bias has shape {tuple(bias.shape)}, expected ({weight.shape[0]},)")
        # In float32 or better throughout: projections of half-precision features may overflow before they are summed.
        dtype = torch.promote_types(features.dtype, torch.float32)
        head = weight.to(dtype), None if bias is None else bias.to(dtype)
        with torch.autocast(features.device.type, enabled=False):
            return self._upsample_linear(features.to(dtype), *head).to(features.dtype)

    def iter_rows(self, features: Tensor, rows: int = 256) -> Iterator[tuple[slice, Tensor]]:
        """The output in bands of rows, top to bottom: bounded memory at any size.

        Args:
            features: (B, C, h, w).
            rows: height of a band, at least 1; the last may be shorter.

        Yields:
            (slice of output rows, band (B, C, rows, Wo)); the bands together equal `upsample(features)`.

        Raises:
            ValueError: if rows is no positive integer.
        """
        height = whole_number("rows", rows, 1)
        self._check_features(features)
        return self._iter_rows(features, height)

    def _iter_rows(self, features: Tensor, rows: int, start: int = 0) -> Iterator[tuple[slice, Tensor]]:
        make = self._bands(features)
        for top in range(start, self.output_size[0], rows):
            bottom = min(top + rows, self.output_size[0])
            yield slice(top, bottom), make(top, bottom)

    def at(self, features: Tensor, rows: Positions, cols: Positions) -> Tensor:
        """Features at chosen output positions only.

        Whole numbers are output pixels. Between them the result is bilinear in the four pixels around, as
        `grid_sample` would give on the full map.

        Args:
            features: (B, C, h, w).
            rows: N row positions from -0.5 to Ho - 0.5, the edges of the output; the border repeats beyond its centre.
            cols: N column positions from -0.5 to Wo - 0.5.

        Returns:
            (B, C, N), dtype of the features.

        Raises:
            ValueError: if the positions lie outside or differ in number.
        """
        self._check_features(features)
        row = self._positions("rows", rows, self.output_size[0])
        col = self._positions("cols", cols, self.output_size[1])
        if len(row) != len(col):
            raise ValueError(f"rows has {len(row)} positions and cols {len(col)}, expected as many")
        top, left = row.floor(), col.floor()
        down, right = row - top, col - left
        if not (down.any() or right.any()):
            return self._at_pixels(features, top.long(), left.long())
        bottom = (top + 1).clamp(max=self.output_size[0] - 1)
        beyond = (left + 1).clamp(max=self.output_size[1] - 1)
        corners = self._at_pixels(
            features, torch.cat([top, top, bottom, bottom]).long(), torch.cat([left, beyond, left, beyond]).long()
        )
        share = torch.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
        dtype = torch.promote_types(features.dtype, torch.float32)
        weighted: Tensor = corners.to(dtype).unflatten(2, (4, -1)) * share.to(dtype).to(features.device)
        return weighted.sum(2).to(features.dtype)

    def attention(self, row: int, col: int, features: Tensor | None = None) -> Attention:
        """Weights of the coarse cells at one output pixel.

        Args:
            row: output row, 0 … Ho - 1.
            col: output column, 0 … Wo - 1.
            features: (B, C, h, w), needed where the weights depend on them (JAFAR, AnyUp).

        Returns:
            The weights and the coarse rows and columns that they belong to.

        Raises:
            ValueError: if the pixel lies outside.
            TypeError: if features are needed and not given.
            NotImplementedError: if the method has no such weights.
        """
        height, width = self.output_size
        pixel = whole_number("row", row, 0, height - 1), whole_number("col", col, 0, width - 1)
        if features is not None:
            self._check_features(features)
        return self._attention(*pixel, features)

    # What a method defines. Only the first is needed; the others have a lean form in most methods.

    @abstractmethod
    def _upsample(self, features: Tensor) -> Tensor: ...

    def _upsample_linear(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        bands = [F.conv2d(band, weight[:, :, None, None], bias) for _, band in self._iter_rows(features, 256)]
        return torch.cat(bands, dim=2)

    def _bands(self, features: Tensor) -> Callable[[int, int], Tensor]:
        """What gives the output rows start … stop - 1, for any number of bands of one feature map."""
        full = self._upsample(features)
        return lambda start, stop: full[:, :, start:stop]

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        return self._upsample(features)[:, :, rows, cols]

    def _attention(self, row: int, col: int, features: Tensor | None) -> Attention:
        raise NotImplementedError(f"{type(self).__name__} has no attention weights")

    def _check_features(self, features: Tensor) -> None:
        check_map("features", features)
        if self.batch is not None and features.shape[0] != self.batch:
            raise ValueError(f"features have batch {features.shape[0]}, the image has {self.batch}: expected the same")
        if self.device is not None and features.device != self.device:
            raise ValueError(f"features are on {features.device}, the guidance on {self.device}")
        check_channels(features, self.channels, self.hint)
        if tuple(features.shape[2:]) != self.grid:
            raise ValueError(f"features have grid {tuple(features.shape[2:])}, the guidance was made for {self.grid}")

    @staticmethod
    def _positions(name: str, value: Positions, size: int) -> Tensor:
        try:
            position = torch.as_tensor(value, dtype=torch.float64, device="cpu")
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"{name} is {value!r}, expected N numbers") from None
        if position.ndim != 1:
            raise ValueError(f"{name} has shape {tuple(position.shape)}, expected one dimension of N positions")
        if not ((position >= -0.5) & (position <= size - 0.5)).all():
            raise ValueError(f"{name} holds positions outside -0.5 … {size - 0.5}, the edges of the output")
        return position.clamp(0, size - 1)  # on the CPU: not every device knows float64


class Upsampler(nn.Module, ABC):
    """Maps (image, features, output_size) to features on the output grid.

    Class attributes tell what a method can do; tests hold every method to them.
    """

    image_channels: int | None = 3
    """Channels of the image, None for any."""
    feature_channels: int | None = None
    """Channels of the features, None for any."""
    smallest_grid: int = 1
    """Least rows and columns of the coarse grid."""
    smallest_output: int = 1
    """Least rows and columns of the output."""
    name: str = ""
    """What `naf.create` was asked for."""
    weights_source: str = "none needed"
    """In words, what `naf.create` loaded."""
    config: Mapping[str, Any] | None = None
    """Constructor arguments in full, without a backbone; None where `naf.create` did not make it."""
    record: WeightRecord | None = None
    """What the file that it was filled from says of itself."""
    calling_options: ClassVar[tuple[str, ...]] = ()
    """Constructor arguments that choose how to compute, not what the weights mean: a caller may overrule a file's."""
    computed_buffers: ClassVar[tuple[str, ...]] = ()
    """Entries of the state dict that follow from the configuration; a checkpoint must agree with them."""
    uses_image: ClassVar[bool] = True
    """Whether the image matters; where it does not, None may be given for it."""
    uses_features: ClassVar[bool] = True
    """Whether the output depends on the features that are given; wrappers of a backbone make their own."""
    is_linear: bool = True
    """Whether the output is linear in the features, channel by channel."""
    is_convex: bool = True
    """Whether each output value is a weighted mean (weights >= 0) of the features' values in its channel."""
    keeps_constants: bool = True
    """Whether constant features stay constant: weights sum to one."""
    has_attention: ClassVar[bool] = True
    """Whether `Guidance.attention` gives weights."""
    fits_one_image: ClassVar[bool] = False
    """Whether it must be fitted to the image that it then serves."""
    is_exportable: ClassVar[bool] = True
    """Whether `torch.export` takes the forward."""
    couples_batch: ClassVar[bool] = False
    """Whether the images of a batch influence each other."""
    normalizes_features: bool = False
    """Whether the output lies in the space of the features after a layer norm over the channels."""

    @classmethod
    def adapt_state(cls, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A published state dict under the names used here; as it is unless a method says otherwise."""
        return state

    def forward(self, image: Tensor | None, features: Tensor, output_size: Sequence[int]) -> Tensor:
        """Upsample features under the guidance of an image.

        Args:
            image: (B, 3, H, W), ImageNet-normalised (see `naf.normalize`), any size; NaN is refused.
            features: (B, C, h, w), any float dtype.
            output_size: (Ho, Wo).

        Returns:
            (B, C, Ho, Wo), dtype and device of the features.

        Raises:
            TypeError: for non-float or non-tensor input.
            ValueError: for wrong ranks, channels, batches, sizes, devices or non-finite images.
        """
        return self._guidance(image, features, output_size).upsample(features)

    def iter_rows(
        self,
        image: Tensor | None,
        features: Tensor,
        output_size: Sequence[int],
        rows: int = 256,
        *,
        start: int = 0,
        state: MutableMapping[str, Tensor] | None = None,
        memory_budget: int = MEMORY_BUDGET,
        on_progress: Callable[[float], object] = lambda _: None,
    ) -> Iterator[tuple[slice, Tensor]]:
        """The output in bands of rows, top to bottom, for outputs that memory cannot hold.

        NAF makes the guidance in bands too, where the whole would not fit in `memory_budget`; that takes a little
        over twice as long, since each norm's statistics cost a walk over the layers before it. Other methods
        encode the whole image. No gradients.

        Args:
            image: as for :meth:`forward`.
            features: (B, C, h, w), as for :meth:`forward`.
            output_size: (Ho, Wo).
            rows: height of a band, at least 1; the last may be shorter.
            start: first output row, 0 … Ho: a run that was stopped goes on there.
            state: takes what the method computes once for this image, as small tensors on the CPU. Given again, with
                the same weights, image and sizes, it saves that work.
            memory_budget: bytes that encoding the whole image may take.
            on_progress: called with the share of the work done, 0 … 1.

        Yields:
            (slice of output rows, band (B, C, rows, Wo)); the rows of `upsampler(image, features, output_size)`.

        Raises:
            TypeError, ValueError: as :meth:`forward`; also for rows or start outside the above, and in training mode,
                where bands made at different times need not fit together.
        """
        height, budget = whole_number("rows", rows, 1), whole_number("memory_budget", memory_budget, 0)
        size = pair_of_sizes("output_size", output_size)
        first = whole_number("start", start, 0, size[0])
        if self.training:
            raise ValueError("the upsampler is in training mode, expected evaluation mode: call its eval() first")
        self._check_pair(image, features)
        return self._stream(image, features, size, height, first, {} if state is None else state, budget, on_progress)

    def encode(self, image: Tensor | None, output_size: Sequence[int], grid: Sequence[int]) -> Guidance:
        """Everything that depends on the image and the two grids, once; then upsample at will.

        Args:
            image: (B, 3, H, W), ImageNet-normalised; may be None where the method ignores it.
            output_size: (Ho, Wo).
            grid: coarse grid (h, w) of the features to come.

        Returns:
            The guidance, on the device of the image.

        Raises:
            TypeError, ValueError: as :meth:`forward`.
        """
        size, grid = pair_of_sizes("output_size", output_size), pair_of_sizes("grid", grid)
        self._check_sizes(image, size, grid)
        guidance = self._encode(image, size, grid)
        guidance.channels, guidance.hint = self.feature_channels, self._channel_hint()
        guidance.device = image.device if image is not None and self.uses_image else None
        return guidance

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """Bytes that encoding an image takes on the CPU, about; 0 where next to nothing."""
        del image_size, output_size
        return 0

    def stream_memory(self, image_size: tuple[int, int], output_size: tuple[int, int], grid: tuple[int, int]) -> int:
        """Bytes that :meth:`iter_rows` takes on the CPU besides its bands, about, with the least `memory_budget`."""
        del grid
        return self.memory(image_size, output_size)

    def save_pretrained(self, folder: str | Path, *, card: str | Path | None = None) -> None:
        """Write config.json, model.safetensors and README.md; see :func:`naf.hub.save_pretrained`."""
        from naf import hub

        hub.save_pretrained(self, folder, card=card)

    def push_to_hub(self, repository: str, *, card: str | Path | None = None, **options: Any) -> str:
        """Upload to the Hugging Face Hub; see :func:`naf.hub.push_to_hub`."""
        from naf import hub

        return hub.push_to_hub(self, repository, card=card, **options)

    def _stream(
        self,
        image: Tensor | None,
        features: Tensor,
        output_size: tuple[int, int],
        rows: int,
        start: int,
        state: MutableMapping[str, Tensor],
        memory_budget: int,
        on_progress: Callable[[float], object],
    ) -> Iterator[tuple[slice, Tensor]]:
        """As :meth:`iter_rows`; image and features fit each other, the image's values are not checked yet."""
        del state, memory_budget
        with torch.no_grad():
            guidance = self._guidance(image, features, output_size)
            guidance._check_features(features)
        return _reported(guidance._iter_rows(features, rows, start), output_size[0], on_progress)

    def _check_sizes(self, image: Tensor | None, size: tuple[int, int], grid: tuple[int, int]) -> None:
        if image is None and self.uses_image:
            raise TypeError(f"image is None, expected a tensor: {type(self).__name__} is guided by the image")
        if image is not None:
            check_map("image", image, self.image_channels)
            if self.uses_image:
                check_finite("image", image)
        for what, sides, least in (("grid", grid, self.smallest_grid), ("output_size", size, self.smallest_output)):
            if min(sides) < least:
                raise ValueError(f"{what} is {sides}, expected at least {least} on each side for {self._label}")

    def _guidance(self, image: Tensor | None, features: Tensor, output_size: Sequence[int]) -> Guidance:
        """Check image and features against each other and encode."""
        self._check_pair(image, features)
        return self.encode(image, output_size, features.shape[-2:])

    def _check_pair(self, image: Tensor | None, features: Tensor) -> None:
        check_map("features", features)
        check_channels(features, self.feature_channels, self._channel_hint())  # before encoding for nothing
        if image is not None:
            check_map("image", image, self.image_channels)
            if image.shape[0] != features.shape[0]:
                raise ValueError(
                    f"image has batch {image.shape[0]}, features have batch {features.shape[0]}: expected the same"
                )
            if image.device != features.device:
                raise ValueError(f"image is on {image.device}, features are on {features.device}: expected the same")

    @property
    def _label(self) -> str:
        return self.name or type(self).__name__

    def _channel_hint(self) -> str:
        return "" if self.feature_channels is None else f" by this {self._label}{channels_of_releases(self.name)}"

    @abstractmethod
    def _encode(self, image: Any, output_size: tuple[int, int], grid: tuple[int, int]) -> Guidance: ...


@torch.no_grad()
def _reported(
    bands: Iterator[tuple[slice, Tensor]], height: int, on_progress: Callable[[float], object]
) -> Iterator[tuple[slice, Tensor]]:
    """The bands of an output of `height` rows, without gradients, reported as they come."""
    for rows, band in bands:
        yield rows, band
        on_progress(rows.stop / height)
