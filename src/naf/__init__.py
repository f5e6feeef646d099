"""NAF: upsample the features of any vision backbone to any resolution, guided by the image.

See `naf.create`, `naf.backbones.create` and `naf.normalize`.
"""

from importlib.metadata import PackageNotFoundError, version

from naf import backbones, data, hub, ops, restoration, upsamplers, visualization
from naf.compilation import compile  # noqa: A004
from naf.normalization import normalize
from naf.registry import create, list_upsamplers
from naf.upsamplers.base import Attention, Guidance, Upsampler
from naf.weights import WeightsError, load_checkpoint

try:
    __version__ = version("naf-upsampler")
except PackageNotFoundError:  # run from a checkout, as torch.hub does
    __version__ = "0.0.0"

__all__ = [
    "Attention",
    "Guidance",
    "Upsampler",
    "WeightsError",
    "__version__",
    "backbones",
    "compile",
    "create",
    "data",
    "hub",
    "list_upsamplers",
    "load_checkpoint",
    "normalize",
    "ops",
    "restoration",
    "upsamplers",
    "visualization",
]
