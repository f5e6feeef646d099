"""Files of depth sets, and where the real ones are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DATA = (Path(__file__).parents[3] / ".." / "shared" / "data").resolve()


def needs(folder):
    return pytest.mark.skipif(not (DATA / folder).is_dir(), reason=f"../shared/data/{folder} is not there")


def write_image(path, height=4, width=6, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, dtype=np.uint8)).save(path)
    return path


def write_depth(path, height=4, width=6, value=2000):
    """16-bit grey: 0, 65535, and then the value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = np.full((height, width), value, dtype=np.uint16)
    counts[0, :2] = 0, 65535
    Image.fromarray(counts).save(path)
    return path
