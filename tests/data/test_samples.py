"""The sample photos."""

import naf
from naf.data.samples import SAMPLES


def test_every_sample_can_be_read_and_names_its_terms():
    names = [sample.name for sample in SAMPLES]
    assert len(set(names)) == len(names)
    for sample in SAMPLES:
        image = naf.data.read_image(sample.path)
        assert image.shape[0] == 3
        assert any(term in sample.credit for term in ("CC0", "public domain", "no known restrictions"))
