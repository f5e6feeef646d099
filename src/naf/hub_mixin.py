"""What huggingface_hub's mixin saves and uploads for an upsampler. Imports huggingface_hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelHubMixin

from naf.data.atomic import replace_file
from naf.training.card import read_card, upsampler_card
from naf.weight_record import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, record_of
from naf.weight_writer import write_weights

if TYPE_CHECKING:
    from naf.upsamplers.base import Upsampler


class HubModel(ModelHubMixin):
    """An upsampler on its way to the Hub.

    Args:
        upsampler: made by `naf.create`.
        card: Markdown file that becomes README.md; None for the card that its weights came with, or a new one.

    Raises:
        ValueError: if the upsampler's configuration is not known.
    """

    def __init__(self, upsampler: Upsampler, card: str | Path | None = None) -> None:
        self.upsampler, self.record = upsampler, record_of(upsampler)
        given = card if card is not None or upsampler.record is None else upsampler.record.card
        self.card = upsampler_card(self.record).markdown() if given is None else read_card(Path(given))

    def _save_pretrained(self, save_directory: Path) -> None:
        write_weights(save_directory / WEIGHTS_FILE, self.upsampler.state_dict(), self.record)
        for name, text in ((CONFIG_FILE, self.record.folder_config()), (CARD_FILE, self.card)):
            replace_file(save_directory / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card that is written."""
        del args, kwargs
        return ModelCard(self.card)
