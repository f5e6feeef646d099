"""What is stored beside features: where they come from and how they lie on the photo."""

from __future__ import annotations

import os

from naf.backbones.base import Backbone, FeatureMap
from naf.upsamplers.base import Upsampler


def metadata(photo: str, coarse: FeatureMap, backbone: Backbone, method: Upsampler, name: str) -> dict[str, object]:
    """The entries of a features file.

    Args:
        photo: name of the file.
        coarse: what the backbone gave.
        backbone: that gave it.
        method: that upsampled it.
        name: of the method, as it was asked for.
    """
    return {
        "photo": os.fsencode(photo).decode(errors="replace"),
        "image_size": "x".join(map(str, coarse.image_size)),
        "backbone": backbone.name,
        "backbone_input_size": "x".join(map(str, coarse.input_size)),
        "stride": coarse.stride,
        "grid": "x".join(map(str, coarse.grid)),
        "upsampler": name,
        "weights": method.weights_source,
        "neighborhood": getattr(method, "neighborhood", "-"),
        "layout": "features: (channels, rows, columns)",
    }
