"""Small restorers with parameters that let signals through."""

import math

import torch

import naf.restoration
from tests.helpers import randn

NAMES = naf.restoration.list_restorers()
SMALL = {
    "dncnn": {"num_layers": 5, "num_features": 8},
    "ircnn": {},
    "naf": {"dim": 32, "img_layers": 1, "kernel_size": 5},
    "rednet": {"num_layers": 4, "num_features": 8},
    "restormer": {"dim": 8, "num_blocks": [1, 2, 1, 1], "num_refinement_blocks": 1},
}


def small(name, **config):
    """A small restorer, always with the same parameters, none of them 0 or 1 and no map much smaller than its input."""
    restorer = naf.restoration.create(name, weights=None, **{**SMALL[name], **config}).requires_grad_(False)
    for index, (key, value) in enumerate(restorer.state_dict().items()):
        drawn = randn(*value.shape, seed=index)
        if value.ndim >= 2:
            value.copy_(drawn * math.sqrt(2 / math.prod(value.shape[1:])))
        elif not key.endswith(("periods", "num_batches_tracked")):
            value.copy_(1 + 0.2 * drawn.clamp(-2, 2) if key.endswith(("weight", "var")) else 0.1 * drawn)
    return restorer


def noisy_image(*shape, seed=0, dtype=torch.float32):
    """Values about 0 to 1 and a little beyond."""
    return 0.5 + 0.3 * randn(*shape, seed=seed, dtype=dtype)
