"""Configurations composed by Hydra from the package's files, with errors of one readable line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]


def compose(
    package: str,
    name: str,
    schema: type,
    overrides: Sequence[str] = (),
    config_dir: Path | None = None,
    *,
    is_whole: bool = True,
) -> DictConfig:
    """The configuration that Hydra composes from a package's files and some overrides.

    Args:
        package: the module that holds the files.
        name: of the primary file; its defaults begin with `schema`.
        schema: dataclass with the keys and their types.
        overrides: Hydra's.
        config_dir: a folder with files and groups of one's own.
        is_whole: whether a value that nobody gave is an error.

    Raises:
        ValueError: for anything that Hydra or the types refuse, in one line.
    """
    ConfigStore.instance().store("schema", schema)
    given = [*_searched(config_dir), *overrides]
    try:
        with readable():
            config = _compose(package, name, given)
            OmegaConf.to_container(config, resolve=True, throw_on_missing=is_whole)
    except UnknownKeyError as error:
        known = _siblings(package, name, error.key, given)
        adding = f". +{error.key}=… adds a key of a library's" if "." in error.key else ""
        raise ValueError(f"{error}{_suggest(error.key, known)}{adding}") from error
    return config


def chosen(package: str, name: str, overrides: Sequence[str] = (), config_dir: Path | None = None) -> dict[str, str]:
    """The file that each group is given by; arguments as :func:`compose`, which has found them in order."""
    with initialize_config_module(package, version_base="1.3"):
        config = hydra_compose(name, [*_searched(config_dir), *overrides], return_hydra_config=True)
    return {str(group): str(file) for group, file in config.hydra.runtime.choices.items() if file is not None}


def plain(config: DictConfig) -> dict[str, Any]:
    """As dicts, lists and scalars."""
    found = OmegaConf.to_container(config, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def quoted(text: str) -> str:
    """A text as a value in an override, with whatever Hydra's grammar would read in it."""
    return "'" + text.replace("'", r"\'") + "'"


def _compose(package: str, name: str, overrides: Sequence[str]) -> DictConfig:
    with initialize_config_module(package, version_base="1.3"):
        return hydra_compose(name, list(overrides))


def _searched(config_dir: Path | None) -> list[str]:
    return [] if config_dir is None else [f"hydra.searchpath=[{quoted(f'file://{_folder(config_dir)}')}]"]


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"--config-dir is {str(path)!r}, expected a folder")
    return path.resolve()


class UnknownKeyError(ValueError):
    """An override of a key that there is not."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key {key!r} is unknown")
        self.key = key


@contextmanager
def readable() -> Iterator[None]:
    """Hydra's errors as a ValueError of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error) from error
    except YAMLError as error:
        raise ValueError(f"a configuration file is no YAML: {' '.join(str(error).split())}") from error


def _explained(error: Exception) -> ValueError:
    text = " ".join(" ".join(str(part) for part in (error, error.__cause__) if part).split())
    if isinstance(error, OverrideParseException):
        found = re.sub(r" See https\S+.*", "", text).removeprefix(f"Error parsing override '{error.override}' ")
        return ValueError(
            f"{error.override} cannot be read: {found}. Expected KEY=VALUE, a value with special characters in quotes "
            "of its own: 'KEY=\"VALUE\"'"
        )
    if lost := re.search(
        r"Could not find '([^']+)/([^/']+)' Available options in '.+?': (.*?)(?: Config search|$)", text
    ):
        return ValueError(f"{lost[1]}={lost[2]} is unknown{_suggest(lost[2], lost[3].split())}")
    if unchosen := re.search(r"You must specify '([^']+)'.*?Available options:?\s*(.*)", text):
        return ValueError(f"{unchosen[1]} is missing, expected {unchosen[1]}=NAME{_suggest('', unchosen[2].split())}")
    if missing := re.search(r"[Mm]issing mandatory value: \S+ full_key: (\S+)", text):
        return ValueError(f"{missing[1]} is missing, expected {missing[1]}=…")
    if unknown := re.search(r"Could not override '[^']+'.*? full_key: (\S+)", text):
        return UnknownKeyError(unknown[1])
    if wrong := re.search(r"(?:override (\S+) )?(Value .*?) full_key: (\S+)", text):
        return ValueError(f"{wrong[3]}: {wrong[2]}")
    return ValueError(re.sub(r" See https\S+.*", "", text))


def _siblings(package: str, name: str, key: str, overrides: Sequence[str]) -> list[str]:
    """Keys that there are where `key` was looked for."""
    keys = [line.partition("=")[0].lstrip("+~") for line in overrides]
    groups = [
        line
        for line, given in zip(overrides, keys, strict=True)
        if given == "hydra.searchpath" or ("." not in given and given != key)
    ]
    parent = key.rpartition(".")[0]
    try:
        found = _compose(package, name, groups)
    except (HydraException, OmegaConfBaseException):
        found = _compose(package, name, [])
    node = OmegaConf.select(found, parent) if parent else found
    names = [str(name) for name in node] if isinstance(node, DictConfig) else []
    return [f"{parent}.{name}" if parent else name for name in names]


def _suggest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f", did you mean {' or '.join(close)}? " if close else ". "
    return hint + f"Known: {', '.join(sorted(known)) or 'none'}"
