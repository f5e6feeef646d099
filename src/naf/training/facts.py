"""A run's configuration and result in words, for metadata and cards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def facts_of(settings: Mapping[str, Any], result: Mapping[str, Any], steps: object) -> dict[str, str]:
    """The facts of a run, in words; those that are not known are left out."""
    sources, data = mapping(settings.get("sources")), mapping(settings.get("data"))
    made = {name: mapping(value) for name, value in sources.items()}
    stages = [mapping(value) for value in mapping(settings.get("stages")).values()]
    roots = [data.get("root"), *(mapping(mapping(source).get("photos")).get("root") for source in sources.values())]
    found: dict[str, Any] = {
        "backbones": "; ".join(_source(name, value) for name, value in made.items() if "noise" not in value),
        "noise": "; ".join(_call(value["noise"]) for value in made.values() if "noise" in value),
        "begun with": _brief(settings.get("weights")) if settings.get("weights") else None,
        "data": ", ".join(dict.fromkeys(_places(roots))),
        "steps": steps,
        "stages": "; ".join(_stage(value) for value in stages if value.get("steps")),
        "losses": _call(settings["objective"]) if settings.get("objective") else None,
        "optimizer": _arguments(mapping(settings.get("optimizer"))),
        "seed": settings.get("seed"),
        "parameters": result.get("parameters"),
        "seconds": result.get("seconds"),
        "machine": result.get("machine"),
        "versions": _arguments(mapping(result.get("versions"))),
        "commit": result.get("commit"),
        "command": result.get("command"),
    }
    return {key: str(value) for key, value in found.items() if value not in (None, "")}


def _source(name: str, value: Mapping[str, Any]) -> str:
    kind = str(value.get("_target_", "")).rpartition(".")[2]
    rest = {key: part for key, part in value.items() if key not in ("_target_", "backbone", "photos", "geometry")}
    rest = {key: part for key, part in rest.items() if part is not False and part is not None}
    what = _call(value["backbone"]) if value.get("backbone") else kind or name
    return what + (f" ({_arguments(rest)})" if rest else "")


def _call(value: Any) -> str:
    """A `_target_` and its arguments as it would be called; text as it is."""
    if not isinstance(value, Mapping):
        return str(value)
    rest = {key: part for key, part in value.items() if key != "_target_"}
    return str(value.get("_target_", "")).rpartition(".")[2] + (f"({_arguments(rest)})" if rest else "")


def _arguments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_brief(value)}" for key, value in values.items() if value is not None)


def _brief(value: Any) -> str:
    """As it is; of a path, the file's name."""
    if isinstance(value, Mapping):
        return _call(value) if "_target_" in value else f"({_arguments(value)})"
    return value.rpartition("/")[2] if isinstance(value, str) else str(value)


def _places(roots: list[Any]) -> list[str]:
    """The last two parts of each folder's path: where it lay is nobody's business."""
    flat = [part for root in roots for part in (root if isinstance(root, list) else [root]) if part]
    return ["/".join([part for part in Path(str(path)).parts if part not in ("..", "/")][-2:]) for path in flat]


def _stage(value: Mapping[str, Any]) -> str:
    rest = {key: part for key, part in value.items() if key not in ("steps", "geometry")}
    return f"{value.get('steps')} steps ({_arguments({**rest, **mapping(value.get('geometry'))})})"


def mapping(value: Any) -> dict[str, Any]:
    """The mapping with its keys as text; empty where it is something else."""
    return {str(key): part for key, part in value.items()} if isinstance(value, Mapping) else {}
