"""K-means segments of features: clusters of the coarse map, found again at full resolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from naf.upsamplers.checks import whole_number
from naf.visualization.pca import to_image
from naf.visualization.positions import spread_positions
from naf.visualization.view import FeatureView

_RESTARTS = 4
_STEPS = 30

# Told apart at a glance, neighbours in the list most of all; dark and light ones alternate for those who see few hues.
PALETTE = (
    *("#3b5bdb", "#f59f00", "#2b8a3e", "#e64980", "#22b8cf", "#862e9c", "#94d82d", "#c92a2a", "#74c0fc", "#5c3d1e"),
    *("#ffd8a8", "#0b7285", "#faa2c1", "#1c2541", "#b2f2bb", "#d9480f", "#b197fc", "#495057", "#ffec99", "#087f5b"),
)


@dataclass(frozen=True, eq=False)
class Segments:
    """Clusters of features.

    The nearest centre c of a vector f is the one with the greatest f·c - |c|²/2: a linear head. So each output pixel
    finds its cluster without the full map.

    Attributes:
        centres: (K, C), float32, largest cluster first.
    """

    centres: Tensor

    @classmethod
    def fit(cls, features: Tensor, k: int, seed: int = 0) -> Segments:
        """K-means (k-means++, the best of four starts) on a feature map; the same for the same seed.

        Args:
            features: (B, C, h, w), the coarse map. At most 4096 positions, evenly spread, are used.
            k: clusters, 2 … 20.
            seed: of the starts.

        Raises:
            TypeError, ValueError: for what is no such map, values that are not finite, a k out of range or above the
                number of different positions.
        """
        from scipy.cluster.vq import ClusterError, kmeans2

        clusters = whole_number("k", k, 2, len(PALETTE))
        vectors = spread_positions(features).cpu()
        different = len(vectors.unique(dim=0))
        if different < clusters:
            raise ValueError(
                f"k is {clusters}, expected at most {different}: the features have no more positions that differ"
            )
        best, least = None, float("inf")
        for start in range(_RESTARTS):
            try:
                found, label = kmeans2(
                    vectors.double().numpy(), clusters, iter=_STEPS, minit="++", missing="raise", seed=seed + start
                )
            except ClusterError:  # a cluster was left empty
                continue
            centres, labels = torch.from_numpy(found), torch.from_numpy(label).long()
            spread = (vectors.double() - centres[labels]).square().sum().item()
            if spread < least:
                order = torch.bincount(labels, minlength=clusters).argsort(descending=True, stable=True)
                best, least = centres[order].float(), spread
        if best is None:
            raise ValueError(f"k is {clusters}, which leaves clusters empty in these features: take a smaller one")
        return cls(best)

    def labels(self, view: FeatureView) -> Tensor:
        """The cluster of each pixel of a view, (H, W) int64, 0 … K - 1; 0 is the largest on the coarse map."""
        bias = -0.5 * self.centres.square().sum(1)
        return view.project(self.centres, bias).argmax(0)

    def image(self, labels: Tensor) -> Image.Image:
        """Labels (H, W) as a picture: the same cluster has the same colour in every picture."""
        table = torch.tensor([[int(each[i : i + 2], 16) / 255 for i in (1, 3, 5)] for each in PALETTE])
        return to_image(table[labels.cpu()].permute(2, 0, 1))
