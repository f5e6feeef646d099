"""Downloads from the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from naf.weight_record import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE

PREFIX = "hf:"
"""Before the name of a repository, where weights are asked for."""


class DownloadError(RuntimeError):
    """A repository that cannot be had."""


def fetch(repository: str, revision: str | None = None) -> Path:
    """The folder in huggingface_hub's cache that holds weights, configuration and card of one commit.

    Downloads what is not there yet; without a network, what was downloaded before is taken.

    Args:
        repository: "USER/REPOSITORY", or "USER/REPOSITORY@REVISION".
        revision: branch, tag or commit; None for the one after "@", or else the main branch.

    Returns:
        The folder; its name is the commit.

    Raises:
        DownloadError: if there is no such repository or revision, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download

    name, _, after = repository.partition("@")
    wanted = revision or after or None
    try:
        folder = snapshot_download(name, revision=wanted, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE, CARD_FILE])
    except Exception as error:  # clients of several versions raise their HTTP library's errors besides their own
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        at = f" at revision {wanted!r}" if wanted else ""
        raise DownloadError(f"{PREFIX}{name}{at} cannot be had: {cause}") from error
    return Path(folder)
