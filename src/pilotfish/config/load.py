"""Settings from a TOML file, the environment and flags, later ones winning.

Unknown keys are refused with the nearest known one: a misspelt promise must never be ignored.
Secrets are not settings: the file names the environment variable that holds the key.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from pilotfish.config import places
from pilotfish.config.catalogue import check_names
from pilotfish.config.settings import SECTIONS, EndpointSettings, ModelSettings, Settings, check_ranges
from pilotfish.core.errors import ConfigError
from pilotfish.core.ids import sha256

PREFIX, FILE_NAME = places.PREFIX, places.FILE_NAME

_TABLES = ("models", "aliases")
"""Top-level tables whose keys the user chooses; they stand in the file only."""

Values = dict[str, Any]
"""Nested values: top-level keys and sections, as a TOML file holds them."""


def load(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[tuple[str, str], object] | None = None,
) -> Settings:
    """The effective settings.

    `path` is the TOML file; without one `pilotfish.toml` in the working folder is read if it is
    there. `flags` maps (section, key) to a value, None meaning "not given"; section "" is the top.
    Raises `ConfigError` for unknown keys, wrong types and values out of range.
    """
    values: Values = {}
    _merge(values, _read_file(path))
    _merge(values, _read_environment(os.environ if environment is None else environment))
    for (section, key), value in (flags or {}).items():
        if value is not None:
            (values.setdefault(section, {}) if section else values)[key] = value
    settings = _build(values)
    check_ranges(settings)
    check_names(settings)
    return settings


def home(settings: Settings) -> Path:
    """The folder of log, registry and specialists."""
    if settings.home:
        return Path(settings.home).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "pilotfish"


def cache() -> Path:
    """The folder of what can be built again, as `places.cache` finds it."""
    return places.cache()


def settings_sha256(settings: Settings) -> str:
    """The hash of the effective settings that every log row carries."""
    return sha256(json.dumps(dataclasses.asdict(settings), sort_keys=True).encode())


def _read_file(path: Path | None) -> Values:
    chosen = path or Path(FILE_NAME)
    if path is None and not chosen.is_file():
        return {}
    try:
        return tomllib.loads(chosen.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration file {str(chosen)!r} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {str(chosen)!r} is not valid TOML: {error}.") from error


def _read_environment(environment: Mapping[str, str]) -> Values:
    """`PILOTFISH_QUALITY_MAX_RISK=0.02` sets [quality] max_risk; `PILOTFISH_HOME` the top-level home."""
    values: Values = {}
    for section, kind in [("", Settings), *SECTIONS.items()]:
        hints = get_type_hints(kind)
        for item in dataclasses.fields(kind):
            if item.name in SECTIONS or item.name in _TABLES:
                continue
            text = environment.get(f"{PREFIX}{section}_{item.name}".upper().replace("__", "_"))
            if text is not None:
                target = values.setdefault(section, {}) if section else values
                target[item.name] = _parse(text, hints[item.name])
    return values


def _parse(text: str, hint: object) -> object:
    """The text of an environment variable as the setting's type; unparsable text is left for the type check.

    A list is written with commas or spaces between its parts.
    """
    kinds = _kinds(hint)
    if tuple in kinds:
        return text.replace(",", " ").split()
    if dict in kinds:
        return _parse_table(text)
    if bool in kinds and text.lower() in ("true", "false", "1", "0", "yes", "no"):
        return text.lower() in ("true", "1", "yes")
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _parse_table(text: str) -> object:
    """A table stands in the environment as a JSON object."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _merge(into: Values, values: Values) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            into[key].update(value)
        else:
            into[key] = value


def _build(values: Values) -> Settings:
    sections: Values = {}
    top = {item.name for item in dataclasses.fields(Settings)}
    for key, value in values.items():
        if key not in top:
            raise ConfigError(_unknown(key, top, "at the top level"))
        if key in SECTIONS:
            sections[key] = _build_section(key, SECTIONS[key], value)
        elif key == "models":
            models = _table(key, value)
            sections[key] = {name: _build_section(f"models.{name}", ModelSettings, it) for name, it in models.items()}
        elif key == "aliases":
            sections[key] = {name: _checked(key, name, target, str) for name, target in _table(key, value).items()}
        else:
            sections[key] = _checked("", key, value, str)
    return Settings(**sections)


def _table(section: str, value: object) -> Values:
    if not isinstance(value, dict):
        raise ConfigError(f"[{section}] must be a table of settings, but is {value!r}.")
    return value


def _build_section(section: str, kind: type[Any], values: object) -> Any:  # noqa: ANN401 - an instance of `kind`
    values = _table(section, values)
    hints = get_type_hints(kind)
    known = {item.name for item in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise ConfigError(_unknown(key, known, f"in [{section}]"))
    return kind(**{key: _checked(section, key, value, hints[key]) for key, value in values.items()})


def _unknown(key: str, known: set[str], where: str) -> str:
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.4)
    advice = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}."
    return f"Unknown configuration key {key!r} {where}. {advice}"


def _kinds(hint: object) -> tuple[type, ...]:
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(kind for part in get_args(hint) for kind in _kinds(part))
    origin = get_origin(hint)
    if origin in (tuple, dict) and isinstance(origin, type):
        return (origin,)
    return (hint,) if isinstance(hint, type) else (str,)


def _checked(section: str, key: str, value: object, hint: object) -> object:
    kinds = _kinds(hint)
    if hint == tuple[EndpointSettings, ...]:
        return _endpoints(section, key, value)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if tuple in kinds and isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if isinstance(value, dict) and not all(isinstance(part, str) for part in value.values()):
        raise ConfigError(f"[{section}.{key}] must hold texts only, but holds {value!r}.")
    if isinstance(value, bool) and bool not in kinds:
        pass
    elif isinstance(value, kinds):
        return value
    words: dict[type, str] = {tuple: "list of str", dict: "table"}
    wanted = " or ".join(words.get(kind, kind.__name__) for kind in kinds if kind is not type(None))
    place = f"[{section}] {key}" if section else key
    raise ConfigError(f"{place} must be of type {wanted}, but is {value!r}.")


def _endpoints(section: str, key: str, value: object) -> tuple[EndpointSettings, ...]:
    """A list of URLs, or of tables with `url` and `key_env`."""
    if not isinstance(value, list):
        raise ConfigError(f"[{section}] {key} must be a list of URLs, but is {value!r}.")
    found = []
    for item in value:
        row = {"url": item} if isinstance(item, str) else item
        if not isinstance(row, dict) or "url" not in row:
            raise ConfigError(f"[{section}] {key} must hold URLs, or tables with a url, but holds {item!r}.")
        found.append(_build_section(f"{section}.{key}", EndpointSettings, row))
    return tuple(found)
