"""Photos that scikit-image carries, free of rights: something to look at without a file of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SamplePhoto:
    """One photo.

    Attributes:
        name: short, as on the command line.
        title: what it shows.
        credit: who made it, and its terms.
        file: its name among scikit-image's data.
    """

    name: str
    title: str
    credit: str
    file: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        import skimage

        return Path(skimage.__file__).parent / "data" / self.file


SAMPLES = (
    SamplePhoto("astronaut", "Eileen Collins", "NASA, public domain", "astronaut.png"),
    SamplePhoto("chelsea", "Chelsea the cat", "Stéfan van der Walt, CC0", "chelsea.png"),
    SamplePhoto("coffee", "Cup of coffee", "Rachel Michetti, CC0", "coffee.png"),
    SamplePhoto("rocket", "Falcon 9 with DSCOVR", "SpaceX, public domain", "rocket.jpg"),
    SamplePhoto("retina", "Retina of a left eye", "Mikael Häggström, CC0", "retina.jpg"),
    SamplePhoto("tissue", "Colonic glands, FHL2 stained", "CMMI, no known restrictions", "ihc.png"),
)
"""All of them; the first three are those of `naf demo`."""
