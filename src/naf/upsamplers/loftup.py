"""LoftUp: a coordinate-based cross-attention transformer (arXiv 2504.14032).

Fourier codes of position and colour pass two 3x3 convolutions and become one query a pixel; two transformer layers
attend from them to all cells of the coarse grid. The output is a prediction in the space of the normalised features,
not a combination of the given ones. Trained for one backbone. Names in the state dict are those of the releases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.rows import Rows, band_rows, bands, conv_rows, fold_batch_norm, join, pick_points, rows_needed
from naf.registry import register
from naf.upsamplers.base import Guidance, Upsampler
from naf.upsamplers.channel_norm import ChannelNorm
from naf.upsamplers.checks import whole_number
from naf.upsamplers.execution import parameter_dtype, working_dtype
from naf.upsamplers.loftup_network import GRID_CHANNELS, Colors, KeysValues, Network

_CPU_TOKENS, _DEVICE_TOKENS = 1 << 10, 1 << 17  # a step of the transformer: in cache on the CPU, much work elsewhere


class LoftUpGuidance(Guidance):
    """Scaled colours of a batch of images.

    Attributes:
        colors: (B, 3, Ho, Wo), float32 or float64.
    """

    def __init__(self, upsampler: LoftUp, colors: Tensor, grid: tuple[int, int], dtype: torch.dtype) -> None:
        super().__init__(colors.shape[0], grid, (colors.shape[2], colors.shape[3]))
        self.colors = colors
        self._upsampler, self._dtype = upsampler, dtype

    def _upsample(self, features: Tensor) -> Tensor:
        return self._bands(features)(0, self.output_size[0])

    def _bands(self, features: Tensor) -> Rows:
        network = self._upsampler.upsampler
        normalized = self._upsampler.channelnorm(features.to(self._dtype).permute(0, 2, 3, 1))
        cells = network.ca_transformer.keys_values(network.cells(normalized, self.colors.dtype))
        queries = self._queries()

        def make(start: int, stop: int) -> Tensor:
            count, width = (stop - start) * self.output_size[1], self.output_size[1]
            tokens = join(self._decode(queries, cells, start, stop), count, features.dtype)
            out: Tensor = tokens.unflatten(1, (-1, width)).permute(0, 3, 1, 2)
            return out

        return make

    def _decode(self, queries: Rows, cells: list[KeysValues], start: int, stop: int) -> Iterator[Tensor]:
        """Output tokens (B, n, C) of the rows, in order."""
        is_cpu, width = self.colors.device.type == "cpu", self.output_size[1]
        for band in bands(start, stop, band_rows(width, self.colors.device)):
            tokens = queries(*band).permute(0, 2, 3, 1).flatten(1, 2)
            for part in tokens.split(_CPU_TOKENS if is_cpu else _DEVICE_TOKENS, dim=1):
                yield self._upsampler.upsampler.decode(part, cells)

    def _queries(self) -> Rows:
        """What gives the queries of some rows, (B, D, rows, Wo)."""
        network, height = self._upsampler.upsampler, self.output_size[0]
        layers = network.first_conv
        if layers.training:  # batch statistics: the whole map at once
            whole = layers[1:](network.code(self.colors, 0, height, self._dtype))
            return lambda start, stop: whole[:, :, start:stop]
        pairs = ((layers[1], layers[2]), (layers[4], layers[5]))
        first, second = (
            fold_batch_norm(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm), self._dtype) for conv, norm in pairs
        )

        def make(start: int, stop: int) -> Tensor:
            inner = rows_needed(start, stop, 1, height)
            outer = rows_needed(*inner, 1, height)
            code = network.code(self.colors, *outer, self._dtype)
            return conv_rows(conv_rows(code, first, *inner, height), second, start, stop, height)

        return make

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        return pick_points(self._bands(features), rows, cols, features)


@register(
    "loftup",
    paper="arXiv 2504.14032",
    summary="LoftUp: a transformer on coordinates and colours",
    is_vfm_agnostic=False,
    channels_argument="dim",
)
class LoftUp(Upsampler):
    """LoftUp.

    The image is resized (bilinear) to the output size. Its colours are scaled by their extremes over the whole batch,
    as in the official code: the images of a batch influence each other.

    Args:
        dim: channels of the features, fixed by the training.
        color_feats: whether colours are coded; only True, as in every release.
        n_freqs: frequencies of the code of coordinates and colours.
        num_heads: attention heads; must divide dim + 20.
        num_layers: transformer layers.
        lr_size: side of a learned position table; no effect with "sine".
        lr_pe_type: position code of the coarse grid; only "sine", as in every release.

    Raises:
        ValueError: for values outside the above.
    """

    is_linear = is_convex = keeps_constants = False
    has_attention = False
    couples_batch = True
    normalizes_features = True

    def __init__(
        self,
        dim: int = 384,
        color_feats: bool = True,
        n_freqs: int = 20,
        num_heads: int = 4,
        num_layers: int = 2,
        lr_size: int = 16,
        lr_pe_type: str = "sine",
    ) -> None:
        super().__init__()
        sizes = {"dim": dim, "n_freqs": n_freqs, "num_heads": num_heads, "num_layers": num_layers, "lr_size": lr_size}
        for name, value in sizes.items():
            whole_number(name, value, 1)
        if (dim + GRID_CHANNELS) % num_heads:
            raise ValueError(
                f"num_heads is {num_heads}, expected a divisor of dim + {GRID_CHANNELS} = {dim + GRID_CHANNELS}"
            )
        if lr_pe_type != "sine":
            raise ValueError(f"lr_pe_type is {lr_pe_type!r}, expected 'sine': no release has another position code")
        if color_feats is not True:
            raise ValueError(f"color_feats is {color_feats!r}, expected True: without colours the image has no effect")
        self.feature_channels = dim
        self.channelnorm = ChannelNorm(dim)
        self.upsampler = Network(dim, n_freqs, num_heads, num_layers)

    @classmethod
    def adapt_state(cls, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Also takes a training file (the norm of the features is `model.1`) and the inner network's own keys."""
        if any(key.startswith("model.1.norm.") for key in state):
            renamed = {key.replace("model.1.", "channelnorm.", 1): value for key, value in state.items()}
            return {key: value for key, value in renamed.items() if key.startswith(("upsampler.", "channelnorm."))}
        if state and not any(key.startswith(("upsampler.", "channelnorm.")) for key in state):
            return {f"upsampler.{key}": value for key, value in state.items()}  # lacks the norm: loading says so
        return state

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """The scaled colours, and bands of the network."""
        del image_size
        return 3 * 4 * output_size[0] * output_size[1] + (256 << 20)

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> LoftUpGuidance:
        # Batch norm with the batch's statistics runs as PyTorch's layer, in the dtype of its parameters.
        dtype = parameter_dtype(self) if self.training else working_dtype(self, image.device)
        with torch.autocast(image.device.type, enabled=False):
            # Contiguous: another memory layout rounds otherwise, which the highest frequencies would magnify.
            exact = image.to(torch.promote_types(dtype, torch.float32)).contiguous()
            if tuple(exact.shape[2:]) != output_size:
                exact = F.interpolate(exact, size=output_size, mode="bilinear", align_corners=False)
            colors = cast(Colors, self.upsampler.fourier_feat[0])(exact)
        return LoftUpGuidance(self, colors, grid, dtype)
