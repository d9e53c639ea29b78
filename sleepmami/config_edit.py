"""Configs to and from plain dictionaries, and the way to change a setting by its dotted name."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from sleepmami.errors import ConfigError, require

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:  # Any: a dataclass instance has no nominal type
    """The config as plain JSON types; `from_dict` is its inverse."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def from_dict(cls: type[T], values: Mapping[str, Any], *, at: str = "") -> T:
    """Build a config; unknown keys and wrong types are ConfigErrors that name the dotted key."""
    hints = typing.get_type_hints(cls)
    known = {item.name for item in dataclasses.fields(cls)}  # type: ignore[arg-type]  # cls is a dataclass
    for key in values:
        if key not in known:
            raise ConfigError(
                f"unknown setting {at + key!r}; there are {sorted(at + k for k in known)}"
            )
    built = {key: _convert(hints[key], value, at + key) for key, value in values.items()}
    return cls(**built)


def _convert(hint: Any, value: Any, name: str) -> Any:  # Any: a type annotation and a JSON value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a group of settings, got {value!r}")
        return from_dict(typing.cast("type[Any]", hint), value, at=f"{name}.")
    origin = typing.get_origin(hint)
    if origin is Literal:
        options = typing.get_args(hint)
        require(
            value in options and type(value) in {type(o) for o in options},
            name,
            value,
            f"one of {options}",
        )
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name} must be a list, got {value!r}")
        item_hints = typing.get_args(hint)
        if item_hints[-1] is Ellipsis:
            item_hints = (item_hints[0],) * len(value)
        require(len(value) == len(item_hints), name, value, f"a list of {len(item_hints)}")
        return tuple(_convert(h, v, name) for h, v in zip(item_hints, value, strict=True))
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in typing.get_args(hint):
            return None
        return next(_convert(h, value, name) for h in typing.get_args(hint) if h is not type(None))
    if hint is float and type(value) is int and abs(value) <= sys.float_info.max:
        value = float(value)
    require(type(value) is hint, name, value, f"of type {hint.__name__}")
    if hint is float:  # JSON's readers take Infinity and NaN, which no setting means
        require(math.isfinite(value), name, value, "a finite number")
    return value


def replace_at(config: T, changes: Mapping[str, Any]) -> T:
    """A copy with dotted settings replaced: `replace_at(config, {"dgcl.rho": 0.2})`.

    A group in place of a value, `{"dgcl": {"rho": 0.2}}`, changes what it names and no more.

    Raises:
        ConfigError: a name does not exist, or a value has the wrong type or range.
    """
    values = to_dict(config)
    for dotted, value in flatten(changes):
        *groups, last = dotted.split(".")
        place = values
        for group in groups:
            inner = place.get(group)
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"unknown setting {dotted!r}: no group {group!r} in {sorted(place)}"
                )
            place = inner
        if last not in place:
            raise ConfigError(f"unknown setting {dotted!r}; there are {sorted(place)}")
        place[last] = value
    return from_dict(type(config), values)


def flatten(values: Mapping[str, Any], *, at: str = "") -> Iterator[tuple[str, Any]]:
    """`{"dgcl": {"rho": 0.1}}` -> ("dgcl.rho", 0.1): each setting with its dotted name."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, at=f"{at}{key}.")
        else:
            yield at + key, value


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["dgcl.rho=0.2", "cohort=shhs1"]` -> values; what is not JSON is taken as a string."""
    changes: dict[str, Any] = {}
    for text in assignments:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ConfigError(f"--set takes dotted.name=value, got {text!r}")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    return changes
