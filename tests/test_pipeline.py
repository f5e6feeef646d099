"""A photo from backbone to sharp features."""

import pytest
import torch
from skimage import data

import naf
from naf import pipeline


@pytest.fixture(scope="module")
def cat():
    return torch.from_numpy(data.chelsea()[:100, :130]).permute(2, 0, 1).float() / 255


def test_features_equal_the_plain_call_and_progress_reaches_one(cat):
    backbone, upsampler = naf.backbones.create("hog"), naf.create("naf", dim=32, weights=None)
    shares = []
    result = pipeline.upsample_photo(cat, backbone, upsampler, (150, 70), on_progress=shares.append)
    coarse = backbone(cat[None])
    with torch.inference_mode():
        expected = upsampler(naf.normalize(cat[None]), coarse, (150, 70))
    torch.testing.assert_close(result.features[None], expected, atol=1e-5, rtol=1e-5)
    assert result.features.is_contiguous()
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_colours_alone_equal_the_colours_of_the_features(cat):
    backbone, upsampler = naf.backbones.create("hog"), naf.create("naf", dim=32, weights=None)
    full = pipeline.upsample_photo(cat, backbone, upsampler)
    lean = pipeline.upsample_photo(cat, backbone, upsampler, keep_features=False)
    assert lean.features is None
    torch.testing.assert_close(lean.picture, full.picture, atol=1e-4, rtol=1e-4)


def test_an_output_beyond_the_memory_is_refused_before_it_is_made(cat, monkeypatch):
    monkeypatch.setattr(pipeline, "available_mib", lambda: 10.0)
    with pytest.raises(ValueError, match=r"an output of 4000x4000 needs 2\.9 GiB.*smaller output size"):
        pipeline.upsample_photo(cat, naf.backbones.create("hog"), naf.create("naf", dim=32, weights=None), (4000, 4000))
