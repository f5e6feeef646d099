"""Image restoration, one file a method: a noisy image in, the restored image out, in one call.

NAF with the image as its own features (arXiv 2511.18452, table 8), and the networks that the paper compares it with.
See :func:`create`; noise models, losses and metrics are modules of their own.
"""

from naf.restoration import dncnn, ircnn, losses, metrics, naf, noise, rednet, restormer
from naf.restoration.base import Restorer
from naf.restoration.registry import create, list_restorers, record_of

__all__ = [
    "Restorer",
    "create",
    "dncnn",
    "ircnn",
    "list_restorers",
    "losses",
    "metrics",
    "naf",
    "noise",
    "record_of",
    "rednet",
    "restormer",
]
