"""The README's Python runs as it stands, one block after the other."""

import re
from pathlib import Path

import torch
from PIL import Image
from skimage import data

ROOT = Path(__file__).parents[1]


def test_the_python_blocks_run_in_order(tmp_path, monkeypatch):
    Image.fromarray(data.chelsea()[:96, :128]).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    names = {"output_size": (96, 128), "weight": torch.randn(5, 16), "bias": torch.randn(5)}
    for block in blocks:
        code = block.replace('"vit_small_patch16_dinov3.lvd1689m"', '"hog"')  # its weights would be downloaded
        exec(code, names)
    assert names["sharp"].shape == (1, 16, 96, 128)
    assert names["rows"].stop == 96
    assert names["fast"] is names["upsampler"]
    assert names["points"].shape == (1, 16, 2)
    assert names["weights"].shape[:2] == (1, 4)
