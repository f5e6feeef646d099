"""Objects that a configuration names by `_target_`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate


def make(key: str, value: Mapping[str, Any], **parts: Any) -> Any:
    """The object of a `_target_`; modules of the current folder are found too.

    Args:
        key: for messages.
        value: with `_target_` and arguments.
        parts: further arguments as they are; Hydra would take dataclasses apart.

    Raises:
        ValueError: naming the key, if it cannot be made.
    """
    if "_target_" not in value:
        raise ValueError(f"{key} has no _target_, expected the name of a class and its arguments")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        made = instantiate({**value, "_partial_": True}, _convert_="all")
        return made if value.get("_partial_") else made(**parts)
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise ValueError(f"{key} cannot be made: {_line(cause)}") from error
    except (TypeError, ValueError, OSError, RuntimeError, ImportError) as error:
        raise ValueError(f"{key} cannot be made: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
