"""Several runs one after another: all combinations of values."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from rich.console import Console

from naf.configs.compose import quoted, readable
from naf.training.config import load
from naf.training.errors import Interrupted
from naf.training.run import run
from naf.training.table import Row, write_table

_LONGEST = 120  # characters of a folder's name


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        varied: value of each key that varies.
        overrides: all of the run, its folder among them.
        config: what they give.
    """

    varied: dict[str, str]
    overrides: list[str]
    config: DictConfig


def plan_sweep(overrides: Sequence[str], config_dir: Path | None = None) -> list[Job]:
    """The runs for all combinations of the values in overrides such as `seed=0,1` or `seed=range(0,3)`.

    Keys under `sweep` in the configuration vary too, unless an override names them. Each run has a folder within the
    one that the configuration says, named after what varies.

    Raises:
        ValueError: if nothing varies, or a combination is no valid configuration.
    """
    with readable():
        parser = OverridesParser.create()
        given = parser.parse_overrides(list(overrides))
        first = [
            override.input_line
            if not override.is_sweep_override()
            else f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
            for override in given
        ]
        base = load([line for line in first if line is not None], config_dir)
        named = {override.key_or_group for override in given}
        lines = [f"{key}={values}" for key, values in base.sweep.items() if key not in named]
        given = [*given, *parser.parse_overrides(lines)]
    choices: list[list[tuple[str, str, bool]]] = []
    for override in given:
        key, varies = override.get_key_element(), override.is_sweep_override()
        values = list(override.sweep_string_iterator()) if varies else [""]
        choices.append([(key, value, True) for value in values] if varies else [(str(override.input_line), "", False)])
    if not any(varies for options in choices for _, _, varies in options):
        raise ValueError("nothing varies: -m expects KEY=VALUE,VALUE, or an experiment with a sweep")
    return [_job(combination, config_dir) for combination in itertools.product(*choices)]


def sweep(overrides: Sequence[str], console: Console, config_dir: Path | None = None) -> list[Row]:
    """Run what :func:`plan_sweep` plans; finished runs are not run again, failed ones do not stop the others.

    After each run table.md and table.csv are written to the folder that all have in common.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM.
        ValueError: as :func:`plan_sweep`, and for `sanity`.
    """
    jobs = plan_sweep(overrides, config_dir)
    if any(job.config.sanity for job in jobs):
        raise ValueError("sanity is a dry run of one training: give it without -m")
    folders = [Path(job.config.folder) for job in jobs]
    place = Path(os.path.commonpath([folder.parent for folder in folders]))
    rows: list[Row] = []
    for number, job in enumerate(jobs):
        what = ", ".join(f"{key}={value}" for key, value in job.varied.items())
        console.print(f"run {number + 1} of {len(jobs)}: {what}", markup=False)
        arguments = [*job.overrides, *(["--config-dir", str(config_dir)] if config_dir else [])]
        try:
            with _own_process_group(arguments):
                rows.append(Row(job.varied, run(job.config, console)))
        except (ValueError, RuntimeError, OSError) as error:
            rows.append(Row(job.varied, {}, str(error)))
            console.print(f"failed: {error}", markup=False)
        except Interrupted:
            write_table(rows, place)
            raise
        made = write_table(rows, place)
    console.print(f"wrote {' and '.join(map(str, made))}", markup=False)
    return rows


def _job(combination: Sequence[tuple[str, str, bool]], config_dir: Path | None) -> Job:
    varied = {key.lstrip("+"): value for key, value, varies in combination if varies}
    lines = [f"{key}={value}" if varies else key for key, value, varies in combination]
    label = ",".join(f"{key}={value}" for key, value in varied.items())
    config = load(lines, config_dir)
    config.folder = str(Path(config.folder) / _file_name(label))
    return Job(
        varied, [*(line for line in lines if not line.startswith("folder=")), f"folder={quoted(config.folder)}"], config
    )


def _file_name(label: str) -> str:
    name = re.sub(r"[^\w.,=+-]+", "_", label)
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{hashlib.blake2b(label.encode(), digest_size=4).hexdigest()}"


@contextmanager
def _own_process_group(arguments: Sequence[str]) -> Iterator[None]:
    """Lightning begins the other processes of a run with the command line, and leaves marks in the environment."""
    command, environment = sys.argv, dict(os.environ)
    sys.argv = [command[0], "train", *arguments]
    try:
        yield
    finally:
        sys.argv = command
        os.environ.clear()
        os.environ.update(environment)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
