"""The parts of a run from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import naf
from naf import registry
from naf.backbones.fingerprint import fingerprint_of
from naf.configs.targets import make
from naf.data.feature_cache import FeatureCache, cache_dtype
from naf.training.config import geometry_of
from naf.training.network import Network, create, find_restorer
from naf.training.objective import Objective
from naf.training.photos import PhotoFolder
from naf.training.plan import Stage, StepPlan
from naf.training.sampler import hashed
from naf.training.sources import BackboneSource, FeatureSource, NoisySource, SegmentSource
from naf.upsamplers.base import Upsampler

_CALIBRATION_PHOTOS = 32


def make_sources(config: Mapping[str, Any]) -> dict[str, FeatureSource]:
    """The feature sources by name.

    `backbone` of a source is a name for `naf.backbones.create` or a `_target_`; `geometry` and `photos` (with `root`)
    are plain values. A source that is null is left out.

    Raises:
        ValueError: if one cannot be made, or there is none.
    """
    sources = {}
    for name, value in config["sources"].items():
        if value is None:
            continue
        given = {key: part for key, part in value.items() if key not in ("geometry", "photos", "val")}
        parts: dict[str, Any] = {}
        if value.get("geometry") is not None:
            parts["geometry"] = geometry_of(f"sources.{name}.geometry", value["geometry"])
        if value.get("photos") is not None:
            parts["photos"] = _photos(f"sources.{name}.photos", value["photos"])
        source = make(f"sources.{name}", given, **parts)
        if not isinstance(source, FeatureSource):
            raise ValueError(f"sources.{name} is a {type(source).__name__}, expected one of naf.training.sources")
        sources[name] = source
    if not sources:
        raise ValueError("sources is empty, expected at least one")
    return sources


def make_network(config: Mapping[str, Any], sources: Mapping[str, FeatureSource]) -> Network:
    """The upsampler or restorer that `upsampler.name` names, initialised from `seed` or filled from `weights`.

    Raises:
        ValueError: as :func:`make_upsampler`; for a restorer, also if a source gives no noisy images.
        naf.WeightsError: if the weights do not fit.
    """
    given = {key: value for key, value in config["upsampler"].items() if value is not None}
    name = str(given.pop("name", ""))
    if find_restorer(name) is None:
        return make_upsampler(config, sources)
    for key, source in sources.items():
        if not isinstance(source, NoisySource):
            raise ValueError(f"sources.{key} is a {type(source).__name__}, but {name!r} needs sources=noisy")
    torch.manual_seed(config["seed"])
    try:
        return create(name, config["weights"], **given)
    except TypeError as error:
        raise ValueError(f"upsampler: {error}") from error


def make_upsampler(config: Mapping[str, Any], sources: Mapping[str, FeatureSource]) -> Upsampler:
    """The upsampler for the features of the sources, initialised from `seed` or filled from `weights`.

    Raises:
        ValueError: for arguments that the method does not take, or where the sources' channels differ and it takes
            only one number.
        naf.WeightsError: if the weights do not fit.
    """
    given = dict(config["upsampler"])
    name = str(given.pop("name", ""))
    about = registry.entry(name)
    if about.needs_backbone or not about.needs_weights or about.cls.fits_one_image:
        raise ValueError(f"upsampler.name is {name!r}, which has nothing to be trained on a set of photos")
    channels = {key: source.channels for key, source in sources.items()}
    if about.channels_argument and len(set(channels.values())) > 1:
        raise ValueError(f"sources have {channels} channels, but {name!r} takes one number: train it on one of them")
    first = next(iter(sources.values()))
    given = {key: value for key, value in given.items() if value is not None}
    torch.manual_seed(config["seed"])
    try:
        return naf.create(name, config["weights"], **{**about.config_for(first.channels, first.stride), **given})
    except TypeError as error:
        raise ValueError(f"upsampler: {error}") from error


def make_objective(config: Mapping[str, Any], sources: Mapping[str, FeatureSource]) -> Objective:
    """The objective; `channels` and `stride` that are null become those of the first source.

    Raises:
        ValueError: if it cannot be made.
    """
    first = next(iter(sources.values()))
    given = dict(config["objective"])
    given |= {key: getattr(first, key) for key in ("channels", "stride") if key in given and given[key] is None}
    torch.manual_seed(config["seed"])
    objective = make("objective", given)
    if not isinstance(objective, Objective):
        raise ValueError(f"objective is a {type(objective).__name__}, expected a naf.training.objective.Objective")
    return objective


def make_optimizer(config: Mapping[str, Any]) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """What makes the optimizer for parameters, from `optimizer.algorithm`.

    Raises:
        ValueError: if that is no optimizer or lacks an argument.
    """
    given = dict(config["optimizer"]["algorithm"])
    factory: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = make(
        "optimizer.algorithm", {**given, "_partial_": True}
    )
    try:
        factory([nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise ValueError(f"optimizer.algorithm cannot be made: {error}") from error
    return factory


def optimizer_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The other keys of `optimizer`, arguments of :class:`naf.training.module.TrainingModule`.

    Raises:
        ValueError: for an unknown key or a value out of range.
    """
    options = {key: value for key, value in config["optimizer"].items() if key != "algorithm"}
    known = ("schedule", "clip_norm", "clip_first_steps")
    for key, value in options.items():
        if key not in known:
            raise ValueError(f"optimizer.{key} is unknown, expected algorithm, {', '.join(known)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if key != "schedule" and not (value is None or is_number):
            raise ValueError(f"optimizer.{key} is {value!r}, expected a number above 0 or null")
    return options


def make_photos(
    config: Mapping[str, Any], sources: Mapping[str, FeatureSource], objective: Objective
) -> dict[str, PhotoFolder]:
    """The training photos of each source: its own, or those of `data.root`.

    Raises:
        DataError: if a folder is missing or holds no image.
        ValueError: for other faults, also if a source or the objective needs label maps and there are none.
    """
    data = config["data"]
    shared = _photos("data.photos", {"root": data["root"], **data["photos"]}) if data["root"] else None
    found = {name: source.photos or shared for name, source in sources.items()}
    for name, photos in found.items():
        if photos is None:
            raise ValueError(
                f"data.root is missing, expected data.root=FOLDER: source {name!r} has no photos of its own"
            )
        needing = [part for part in (sources[name], objective) if getattr(part, "needs_segments", False)]
        if isinstance(sources[name], SegmentSource):
            needing = [sources[name]]
        if needing and photos.segments is None:
            raise ValueError(
                f"data.photos.segments is missing, expected where the label maps are: {type(needing[0]).__name__} "
                "needs them"
            )
    return {name: photos for name, photos in found.items() if photos is not None}


def make_validation_photos(config: Mapping[str, Any], sources: Mapping[str, FeatureSource]) -> dict[str, PhotoFolder]:
    """Held-out photos of each source that has some: its `val`, or those of `data.val`.

    Those of `data.val` are centre-cropped; where the training takes native crops, they are such too, always the same.

    Label maps have no photos in common with others, so they are validated only where they have a `val`.
    """
    root = config["data"]["val"]
    crop = "native" if config["data"]["photos"].get("crop") == "native" else "center"
    shared = None if root is None else _photos("data.val", {"root": root, "crop": crop})
    found = {}
    for name, source in sources.items():
        own = config["sources"][name].get("val")
        if own is not None:
            found[name] = _photos(f"sources.{name}.val", own)
        elif shared is not None and not isinstance(source, SegmentSource):
            found[name] = shared
    return found


def make_caches(
    config: Mapping[str, Any], sources: Mapping[str, FeatureSource], precision: str
) -> dict[str, FeatureCache]:
    """A cache for each backbone and precision that it runs in, in a folder of its own.

    Raises:
        ValueError: for an unknown dtype.
        CacheError: if the folder cannot be made.
    """
    data = config["data"]
    if data["cache"] is None:
        return {}
    dtype = cache_dtype("data.cache_dtype", data["cache_dtype"])
    caches = {}
    for name, source in sources.items():
        if isinstance(source, BackboneSource):
            fingerprint = f"{fingerprint_of(source.backbone)}-{precision}"
            folder = f"{source.backbone.name.replace('/', '_')}-{fingerprint[:12]}-{precision}-{data['cache_dtype']}"
            caches[name] = FeatureCache(Path(data["cache"]) / folder, fingerprint, dtype)
    return caches


def calibrate(
    sources: Mapping[str, FeatureSource],
    photos: Mapping[str, PhotoFolder],
    stages: Sequence[Stage],
    device: torch.device,
) -> None:
    """Take the channel statistics of sources that normalise, over photos of the training set; always the same ones."""
    for name, source in sources.items():
        if not (isinstance(source, BackboneSource) and source.normalize_channels):
            continue
        cells = round((source.geometry or stages[0].geometry).image_size[1] / source.stride)
        side = max(1, cells) * source.stride
        plan = StepPlan(0, 0, name, side, side, side, 1, hashed("calibration", name))
        chosen = photos[name]
        count = min(_CALIBRATION_PHOTOS, len(chosen))
        source.to(device)
        source.calibrate(
            chosen.load(number * len(chosen) // count, plan, number).image01.to(device) for number in range(count)
        )


def _photos(key: str, value: Mapping[str, Any]) -> PhotoFolder:
    given = dict(value)
    if not given.get("root"):
        raise ValueError(f"{key}.root is missing, expected a folder of photos")
    try:
        return PhotoFolder(given.pop("root"), **given)
    except TypeError as error:
        raise ValueError(f"{key}: {error}") from error
