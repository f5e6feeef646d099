"""What huggingface_hub's mixin saves and uploads for an upsampler or a restorer. Imports huggingface_hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelHubMixin

from naf.data.atomic import replace_file
from naf.restoration import Restorer
from naf.training.card import read_card, upsampler_card
from naf.training.network import Network, record_of
from naf.training.restorer_card import restorer_card
from naf.weight_record import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from naf.weight_writer import write_weights


class HubModel(ModelHubMixin):
    """An upsampler or a restorer on its way to the Hub.

    Args:
        network: made by `naf.create` or `naf.restoration.create`.
        card: Markdown file that becomes README.md; None for the card that its weights came with, or a new one.

    Raises:
        ValueError: if the network's configuration is not known.
    """

    def __init__(self, network: Network, card: str | Path | None = None) -> None:
        self.network, self.record = network, record_of(network)
        given = card if card is not None or network.record is None else network.record.card
        card_of = restorer_card if isinstance(network, Restorer) else upsampler_card
        self.card = card_of(self.record).markdown() if given is None else read_card(Path(given))

    def _save_pretrained(self, save_directory: Path) -> None:
        write_weights(save_directory / WEIGHTS_FILE, self.network.state_dict(), self.record)
        for name, text in ((CONFIG_FILE, self.record.folder_config()), (CARD_FILE, self.card)):
            replace_file(save_directory / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card that is written."""
        del args, kwargs
        return ModelCard(self.card)
