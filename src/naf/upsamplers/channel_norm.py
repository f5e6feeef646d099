"""Layer norm over channels, under the name that FeatUp's and LoftUp's releases give it."""

from __future__ import annotations

from torch import Tensor, nn

from naf.ops.linear import normalize


class ChannelNorm(nn.Module):
    """Layer norm over the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape, (…, channels): channels come last here."""
        return normalize(x, self.norm)
