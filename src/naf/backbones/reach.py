"""Whether a repository's files can be had now: its clients would try for most of a minute where there is no network."""

from __future__ import annotations

import time


def is_within_reach(repository: str, *, files: tuple[str, ...], revision: str = "main", timeout: float = 3.0) -> bool:
    """Whether the Hugging Face cache holds one of some files, or the hub answers.

    Args:
        repository: "USER/NAME".
        files: any of which is enough.
        revision: branch, tag or commit.
        timeout: seconds in which the hub must answer.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    if any(isinstance(try_to_load_from_cache(repository, file, revision=revision), str) for file in files):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    start = time.monotonic()
    try:
        address = f"{constants.ENDPOINT}/{repository}/resolve/{revision}/config.json"
        answer = get_session().head(address, timeout=timeout)
    except Exception:  # whatever the HTTP client raises, the hub did not answer
        return False
    return answer.status_code < 400 and time.monotonic() - start < timeout
