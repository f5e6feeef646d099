"""FeatUp's implicit upsampler (arXiv 2403.10516): one small network for one image.

The network maps position and colour of a pixel to features. It is fitted so that, brought back to the backbone's
grid, its map agrees with the backbone's features of many jittered views of the image. Hence `fit` before use; the
features that a call is given only say which shape and dtype to return.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.fourier import coordinates
from naf.registry import register
from naf.upsamplers.base import Guidance, Upsampler
from naf.upsamplers.checks import check_finite, check_map, whole_number
from naf.upsamplers.execution import wants_grad
from naf.upsamplers.extractor import FeatureExtractor, check_extractor, resize_image, to_image01
from naf.upsamplers.featup_fit import ImplicitFit, Progress
from naf.upsamplers.featup_network import ImplicitNetwork, parameters_of

_CPU_PIXELS, _DEVICE_PIXELS = 1 << 13, 1 << 17  # of a band, whose code and layers take about 5 KB a pixel
_THUMBNAIL = 8  # cells a side
_SAME_IMAGE = 0.1  # greatest mean difference of thumbnails, in standard deviations of ImageNet


class ImplicitGuidance(Guidance):
    """The network and, for every output pixel, its coordinates and scaled colour.

    Attributes:
        colors: (Ho, Wo, 3), -0.5 … 0.5 over the fitted image; float32 or float64.
    """

    def __init__(self, upsampler: FeatUpImplicit, colors: Tensor, grid: tuple[int, int]) -> None:
        super().__init__(1, grid, (colors.shape[0], colors.shape[1]))
        self.colors = colors
        self._network = upsampler.network
        self._step = _CPU_PIXELS if colors.device.type == "cpu" else _DEVICE_PIXELS
        self._rows, self._cols = (coordinates(side, colors.dtype, colors.device) for side in self.output_size)
        # The last layer and the way back to the backbone's channels are both linear: one layer.
        weight, bias = parameters_of(self._network.last, colors.dtype)
        components, mean = (x.to(colors.dtype) for x in (upsampler.pca_components, upsampler.pca_mean))
        self._last = components.mT @ weight, components.mT @ bias + mean

    def _upsample(self, features: Tensor) -> Tensor:
        return self._bands(features)(0, self.output_size[0])

    def _upsample_linear(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        own_weight, own_bias = self._last
        weight = weight.to(own_weight.dtype)
        shift = weight @ own_bias + (0 if bias is None else bias.to(weight.dtype))
        return self._map(0, self.output_size[0], features.dtype, weight @ own_weight, shift)

    def _bands(self, features: Tensor) -> Callable[[int, int], Tensor]:
        return lambda start, stop: self._map(start, stop, features.dtype, *self._last)

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        rows, cols = rows.to(self.colors.device), cols.to(self.colors.device)
        pixels = torch.cat([self._rows[rows, None], self._cols[cols, None], self.colors[rows, cols]], dim=1)
        parts = [F.linear(self._network.hidden(part), *self._last) for part in pixels.split(self._step)]
        return torch.cat(parts).mT[None].to(features.dtype)

    def _map(self, start: int, stop: int, dtype: torch.dtype, weight: Tensor, bias: Tensor) -> Tensor:
        """Rows start … stop - 1, (1, K, rows, Wo), channels last in memory."""
        if wants_grad(self._network, self.colors, weight, bias) or torch.compiler.is_compiling():
            out = self._layers(start, stop, weight, bias).to(dtype)
        else:
            out = torch.empty(stop - start, self.output_size[1], len(weight), dtype=dtype, device=weight.device)
            step = max(1, self._step // self.output_size[1])
            for first in range(start, stop, step):
                last = min(first + step, stop)
                out[first - start : last - start] = self._layers(first, last, weight, bias)
        return out.permute(2, 0, 1)[None]

    def _layers(self, start: int, stop: int, weight: Tensor, bias: Tensor) -> Tensor:
        rows, colors = self._rows[start:stop], self.colors[start:stop]
        return F.linear(self._network.hidden(_pixels(rows, self._cols, colors)), weight, bias)


@register(
    "featup-implicit",
    summary="FeatUp's implicit network, fitted to one image with its backbone by fit(image, backbone)",
    paper="arXiv 2403.10516",
    is_vfm_agnostic=False,
    channels_argument="channels",
)
class FeatUpImplicit(Upsampler):
    """FeatUp's implicit upsampler. Create it untrained (`weights=None`) and call :meth:`fit`.

    The state dict holds what was fitted: network, PCA basis, colour scale, and a thumbnail of the image, by which a
    call with another image is refused. Dropout acts in `fit` alone, whatever the mode.

    Args:
        channels: C of the features, those of the backbone.
        n_freqs: frequencies of the Fourier code.
        dim: principal components that the network gives; at most `channels` are used.
        hidden: channels of the network's hidden layers.

    Raises:
        ValueError: for values that are no positive integers.
    """

    uses_features: ClassVar[bool] = False
    is_linear = False
    is_convex = False
    keeps_constants = False
    has_attention: ClassVar[bool] = False
    fits_one_image: ClassVar[bool] = True

    fitted: Tensor
    pca_components: Tensor
    pca_mean: Tensor
    color_low: Tensor
    color_span: Tensor
    thumbnail: Tensor

    def __init__(self, channels: int = 384, n_freqs: int = 30, dim: int = 128, hidden: int = 128) -> None:
        super().__init__()
        self.feature_channels = whole_number("channels", channels, 1)
        self.n_freqs, self.hidden = whole_number("n_freqs", n_freqs, 1), whole_number("hidden", hidden, 1)
        self.dim = min(whole_number("dim", dim, 1), self.feature_channels)
        self.network = ImplicitNetwork(self.n_freqs, self.hidden, self.dim)
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("pca_components", torch.zeros(self.dim, self.feature_channels))
        self.register_buffer("pca_mean", torch.zeros(self.feature_channels))
        self.register_buffer("color_low", torch.zeros(3))
        self.register_buffer("color_span", torch.ones(3))
        self.register_buffer("thumbnail", torch.zeros(3, _THUMBNAIL, _THUMBNAIL))

    def fit(
        self,
        image: Tensor,
        backbone: FeatureExtractor,
        *,
        steps: int = 1200,
        views: int = 3000,
        seed: int = 0,
        size: int = 224,
        patience: int | None = None,
        checkpoint: str | Path | None = None,
        on_progress: Progress = lambda *_: None,
    ) -> Self:
        """Fit to one image; every earlier fit is forgotten.

        Takes `views` images through the backbone, then `steps` steps. Memory: about 1.3 GB at 224 x 224, and 2 bytes a
        value of the reduced features of all views (150 MB by default). The same arguments give the same fit on the
        same machine; PyTorch's global generator is left alone. If it fails or is interrupted the upsampler stays as
        it was.

        Args:
            image: (1, 3, H, W), ImageNet-normalised, any size; on the device of the parameters.
            backbone: gives the features, of `channels` channels.
            steps: of the optimiser, of 10 views each. The authors take 500 for a ResNet-50.
            views: jittered views to draw from.
            seed: of all that is drawn.
            size: the image is resized so that its shorter side has about this many pixels, whole strides of the
                backbone, or to what a backbone of fixed size takes.
            patience: stop when the loss (smoothed) has not fallen for this many steps; None for never.
            checkpoint: file that is written every 100 steps, at the end and when interrupted. If it is there, the fit
                goes on from it as if it had not stopped, also beyond its end where `steps` is larger.
            on_progress: called after each step with steps done, steps in all and the loss of the step.

        Returns:
            The upsampler itself.

        Raises:
            TypeError, ValueError: for a bad image, backbone or number.
            WeightsError: if the checkpoint cannot be read or is of another fit.
            RuntimeError: if the loss is no finite number.

        Example:
            >>> import torch, naf
            >>> backbone = naf.backbones.create("hog", stride=8)
            >>> image = naf.normalize(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
            >>> upsampler = naf.create("featup-implicit", weights=None, channels=16)
            >>> upsampler = upsampler.fit(image, backbone, size=32, steps=2, views=4)
            >>> upsampler(image, torch.zeros(1, 16, 4, 4), (64, 64)).shape
            torch.Size([1, 16, 64, 64])
        """
        self._check_fit(image, backbone)
        for name, value in (("steps", steps), ("views", views), ("patience", 1 if patience is None else patience)):
            whole_number(name, value, 1)
        size = whole_number("size", size, max(8, 2 * backbone.stride))
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(image.device.type, enabled=False):
            dtype = self.network.last.weight.dtype
            whole = image.detach().to(dtype, copy=True)
            small = resize_image(whole, _fit_size(whole, size, backbone))
            low, high = small.amin((0, 2, 3)), small.amax((0, 2, 3))
            span = (high - low).clamp(min=1e-4)
            rows, cols = (coordinates(side, dtype, image.device) for side in small.shape[2:])
            fit = ImplicitFit(
                copy.deepcopy(self.network).requires_grad_(True),
                _pixels(rows, cols, _scale(small, low, span)),
                to_image01(small)[0],
                backbone,
                views=views,
                seed=seed,
            )
            fingerprint = {
                "image": hashlib.sha256(whole.cpu().numpy().tobytes()).hexdigest(),
                "views": views,
                "seed": seed,
                "size": tuple(small.shape[2:]),
                "stride": backbone.stride,
                "dtype": str(dtype),
                "n_freqs": self.n_freqs,
                "dim": self.dim,
                "hidden": self.hidden,
            }
            path = None if checkpoint is None else Path(checkpoint)
            pca = fit.run(steps, patience, path, fingerprint, on_progress)
        self._keep(fit.network, pca.components, pca.mean, low, span, _make_thumbnail(whole))
        return self

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """The colours of the output's pixels and one band."""
        del image_size
        return 2 * 3 * 4 * output_size[0] * output_size[1] + (64 << 20)

    def _check_fit(self, image: Tensor, backbone: FeatureExtractor) -> None:
        check_map("image", image, 3)
        check_finite("image", image)
        if image.shape[0] != 1:
            raise ValueError(f"image has batch {image.shape[0]}, expected 1: the network is fitted to one image")
        own = self.network.last.weight
        if image.device != own.device:
            raise ValueError(f"image is on {image.device}, the upsampler on {own.device}: expected the same")
        if own.dtype.itemsize < 4:
            raise ValueError(f"the parameters are {own.dtype}, expected float32 or float64: fit first, reduce later")
        if check_extractor(backbone).channels != self.feature_channels:
            raise ValueError(
                f"backbone gives {backbone.channels} channels, this {self._label} is made for {self.feature_channels}: "
                f"create it with channels={backbone.channels}"
            )

    @torch.no_grad()
    def _keep(self, network: ImplicitNetwork, *buffers: Tensor) -> None:
        self.network.load_state_dict(network.state_dict())
        names = ("pca_components", "pca_mean", "color_low", "color_span", "thumbnail")
        for name, value in zip(names, buffers, strict=True):
            getattr(self, name).copy_(value)
        self.fitted.fill_(True)
        self.weights_source = "fitted to one image"

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> FeatUpImplicit:
        exact = {name: getattr(self, name) for name in ("color_low", "color_span")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, table in exact.items():
            moved = getattr(self, name)
            if moved.dtype.itemsize < 4:  # would move the colours, and the code's phases with them by many turns
                setattr(self, name, table.to(moved.device))
        return self

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> ImplicitGuidance:
        # Phases need float32 whatever the parameters are.
        image = image.to(torch.promote_types(self.network.last.weight.dtype, torch.float32))
        self._check_image(image)
        colors = _scale(resize_image(image, output_size), self.color_low, self.color_span)
        return ImplicitGuidance(self, colors, grid)

    def _check_image(self, image: Tensor) -> None:
        if image.shape[0] != 1:
            raise ValueError(f"image has batch {image.shape[0]}, expected 1: the network is fitted to one image")
        if torch.compiler.is_compiling():  # values cannot be looked at
            return
        if not self.fitted:
            raise RuntimeError(f"this {self._label} is not fitted: call fit(image, backbone) first")
        difference = (_make_thumbnail(image.detach()) - self.thumbnail).abs().mean().item()
        if difference > _SAME_IMAGE:
            raise ValueError(
                f"image is not the one that this {self._label} was fitted to (thumbnails differ by {difference:.2f} on "
                "average): call fit(image, backbone) for it, or create another upsampler"
            )


def _pixels(rows: Tensor, cols: Tensor, colors: Tensor) -> Tensor:
    """Row, column and colour of each pixel, (H, W, 5), of axes (H,) and (W,) and (H, W, 3)."""
    down, across = torch.meshgrid(rows, cols, indexing="ij")
    return torch.cat([down[..., None], across[..., None], colors], dim=2)


def _scale(image: Tensor, low: Tensor, span: Tensor) -> Tensor:
    """Colours (1, 3, H, W) as (H, W, 3), from -0.5 to 0.5 where they go from `low` to `low + span`."""
    colors: Tensor = (image[0].permute(1, 2, 0) - low.to(image)) / span.to(image) - 0.5
    return colors


def _make_thumbnail(image: Tensor) -> Tensor:
    """(1, 3, H, W) as (3, 8, 8)."""
    return F.adaptive_avg_pool2d(image, _THUMBNAIL)[0]


def _fit_size(image: Tensor, shorter: int, backbone: FeatureExtractor) -> tuple[int, int]:
    """The size to fit at: shape of the image, whole strides, as the backbone will take it without resizing."""
    scale = shorter / min(image.shape[2:])
    height, width = (max(1, round(side * scale / backbone.stride)) * backbone.stride for side in image.shape[2:])
    return backbone.input_size((height, width))
