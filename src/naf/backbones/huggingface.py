"""Vision models of the transformers library, from the Hugging Face Hub or a folder."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from naf.backbones.probed import ProbedBackbone, first_line
from naf.backbones.timm import BackboneError
from naf.normalization import IMAGENET_MEAN, IMAGENET_STD

PREFIX = "hf:"


class HuggingFaceBackbone(ProbedBackbone):
    """A vision model of transformers as a source of dense features: ViTs, ConvNeXts, hierarchical networks.

    Features are those of the last layer, after the final norm where there is one (of CLIP too, whose
    `last_hidden_state` comes before it), without class token and registers. Of a model of images and text only the
    vision tower is loaded. Masked autoencoders run unmasked.

    The image is normalised by the model's `preprocessor_config.json`; where that is missing, as ImageNet is, and
    `note` says so. Position embeddings are interpolated where the model offers it; models of one size get the image
    resized to that.

    Nothing is unpickled: weights must be safetensors. Needs transformers (extra `hf`).

    Args:
        name: "USER/REPOSITORY" of the Hub, "USER/REPOSITORY@REVISION" to pin a branch, tag or commit, or a folder
            that `save_pretrained` wrote; a folder that exists is taken first.
        dtype: of the model; the features have it too.
        max_side: the network sees at most this many pixels on the longer side.
        trust_remote_code: run code that lies in the repository, for models that transformers does not know. It can
            do anything on this machine: read it first, and pin it by REVISION.

    Raises:
        BackboneError: if transformers is not installed, the model cannot be had, is no vision model or gives no
            dense features.

    Example:
        >>> import torch, naf
        >>> backbone = naf.backbones.create("hf:facebook/dinov2-small")  # doctest: +SKIP
        >>> backbone(torch.rand(1, 3, 224, 280)).shape  # doctest: +SKIP
        torch.Size([1, 384, 16, 20])
    """

    def __init__(
        self,
        name: str,
        *,
        dtype: torch.dtype = torch.float32,
        max_side: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        label, (place, revision) = PREFIX + name, _place(name)
        options = {"revision": revision, "trust_remote_code": trust_remote_code}
        model = _load(label, place, dtype, options)
        normalisation = _normalisation(place, revision)
        super().__init__(label, model, *(normalisation or (IMAGENET_MEAN, IMAGENET_STD)), max_side)
        if normalisation is None:
            self.note = f"{label}, normalised as ImageNet is: its image_mean and image_std are not known"
        self._takes = set(inspect.signature(model.forward).parameters)
        self.late_norm = ""
        side = getattr(model.config, "image_size", None)
        with self._noting_late_norm():
            self._probe(side if isinstance(side, int) else None)

    @contextmanager
    def _noting_late_norm(self) -> Iterator[None]:
        """Find a final norm that the model applies to its class token alone, as CLIP does."""
        norms = [name for name, _ in self.model.named_modules() if name.rpartition(".")[2] == "post_layernorm"]
        if not norms:
            yield
            return
        ranks: list[int] = []
        hook = self.model.get_submodule(norms[0]).register_forward_pre_hook(lambda _, args: ranks.append(args[0].ndim))
        try:
            yield
        finally:
            hook.remove()
        if ranks and ranks[-1] == 2:
            self.late_norm = norms[0]

    def _run(self, image: Tensor) -> Tensor:
        output = getattr(self.model(**self._inputs(image)), "last_hidden_state", None)
        if not isinstance(output, Tensor):
            raise TypeError("the model gives no last_hidden_state")
        if self.late_norm:
            output = self.model.get_submodule(self.late_norm)(output)
        return output

    def _inputs(self, image: Tensor) -> dict[str, Any]:
        config: Any = self.model.config
        if "spatial_shapes" in self._takes:  # SigLIP 2 of any aspect takes patches
            return _patches(image, config.patch_size)
        given: dict[str, Any] = {"pixel_values": image}
        if "interpolate_pos_encoding" in self._takes:
            given["interpolate_pos_encoding"] = True
        if "noise" in self._takes:  # masked autoencoders sort patches by it; ascending leaves them where they are
            cells = image[0, 0].numel() // config.patch_size**2
            given["noise"] = torch.arange(cells, device=image.device).expand(len(image), -1)
        return given


def _place(name: str) -> tuple[str, str | None]:
    """Repository or folder, and revision."""
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser()), None
    repository, _, revision = name.partition("@")
    return repository, revision or None


def _load(label: str, place: str, dtype: torch.dtype, options: dict[str, Any]) -> Any:
    """The model, all of whose weights are those of the repository."""
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise BackboneError(
            f"{label!r} needs transformers: pip install 'naf-upsampler[hf]' ({first_line(error)})"
        ) from error
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(place, **options)
            config = getattr(config, "vision_config", config)  # of models of images and text the vision tower alone
            if hasattr(config, "mask_ratio"):
                config.mask_ratio = 0.0
            model, about = AutoModel.from_pretrained(
                place, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
        except Exception as error:  # clients of several versions raise their HTTP library's errors besides their own
            raise BackboneError(
                f"{label!r} cannot be had: {first_line(error)} (expected a repository of the Hugging Face Hub that "
                "this machine reaches or has in its cache, or a folder, with config.json and safetensors weights; code "
                "of its own needs trust_remote_code=True)"
            ) from error
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise BackboneError(f"{label!r} is no vision model: {type(model).__name__} takes no pixel_values")
    missing = {str(key) for key in about["missing_keys"]}
    if any(key.startswith("pooler.") for key in missing):
        model.pooler = None  # nobody asks for it, and at random it would make the fingerprint another each time
    missing = {key for key in missing if not key.startswith("pooler.")}
    if missing:
        raise BackboneError(
            f"{label!r}: its weights lack {len(missing)} tensors of {type(model).__name__}, among them {min(missing)}"
        )
    return model.to(dtype).eval()


def _normalisation(place: str, revision: str | None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation for values from 0 to 1; None where the repository does not say."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        values, _ = ImageProcessingMixin.get_image_processor_dict(place, revision=revision)
    except OSError:
        return None
    if values.get("do_normalize") is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean, std = (values.get(key) or () for key in ("image_mean", "image_std"))
    if not isinstance(mean, list) or not isinstance(std, list) or not len(mean) == len(std) == 3:
        return None
    return tuple(map(float, mean)), tuple(map(float, std))


def _patches(image: Tensor, patch: int) -> dict[str, Tensor]:
    """An image (B, 3, H, W) as patches (B, h·w, patch·patch·3), row by row, all of them valid."""
    count, height, width = len(image), image.shape[2] // patch, image.shape[3] // patch
    patches = image.unflatten(3, (width, patch)).unflatten(2, (height, patch)).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": patches.flatten(3).flatten(1, 2),
        "pixel_attention_mask": torch.ones(count, height * width, dtype=torch.long, device=image.device),
        "spatial_shapes": torch.tensor([[height, width]] * count, device=image.device),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the list of the text tower's weights, which are not taken, and bars of a moment."""
    from transformers.utils import logging as library

    level, has_bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity(logging.ERROR)
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library.set_verbosity(level)
        if has_bars:
            library.enable_progress_bar()  # type: ignore[no-untyped-call]
