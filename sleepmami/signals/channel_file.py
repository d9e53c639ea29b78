"""A user's own words for channels: a YAML mapping from labels to what they stand for.

    Aux 3: ignore
    PG1: EOG left
    "C3(1)": C3-M2
    "Nasal*": nasal pressure

Labels match whatever their case and blank space; `*` stands for any characters. Each meaning is
read by the label parser, so any label that it understands will do.
"""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from sleepmami.errors import ConfigError
from sleepmami.signals.labels import UNKNOWN, parse_label
from sleepmami.signals.montage import IGNORE, plain

MAX_BYTES = 1_000_000
_EXPECTED = "words such as 'EEG C4-M1', 'EOG left', 'chin EMG', 'nasal flow', 'SpO2', or 'ignore'"


def read_channel_file(
    source: str | os.PathLike[str] | bytes, name: str | None = None
) -> tuple[tuple[str, str], ...]:
    """Pairs of label and meaning, in the file's order; for `PreprocessConfig.channels`.

    Args:
        source: path of a YAML file, or its bytes.
        name: what errors call the file; by default its path.

    Raises:
        ConfigError: the file cannot be read, is no mapping of text to text, names a label twice,
            or gives a meaning that the label parser does not understand.
    """
    if isinstance(source, bytes):
        name, raw = name or "<bytes>", source
    else:
        name = name or os.fspath(source)
        raw = _read(Path(source), name)
    root = _compose(raw, name)
    if root is None:
        raise ConfigError(f"{name}: found an empty file; expected a mapping of labels to meanings")
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"{name}, line {_line(root)}: found {_kind(root)}; expected a mapping of labels to "
            "meanings, such as 'PG1: EOG left'"
        )
    rules: dict[str, tuple[str, str]] = {}
    for key, value in root.value:
        label, meaning = _pair(key, value, name)
        if plain(label) in rules:
            raise ConfigError(
                f"{name}, line {_line(key)}: found label {label!r} a second time; expected once"
            )
        rules[plain(label)] = (label, meaning)
    return tuple(rules.values())


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ConfigError(f"{name}: found {found}; expected a channel file (YAML)") from error


def _compose(raw: bytes, name: str) -> yaml.Node | None:
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: found more than {MAX_BYTES} bytes; expected a channel file")
    try:
        # nodes, not values: they keep the line, and `no` and `1` stay the words they are
        return yaml.compose(raw, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "bytes that are no text"
        raise ConfigError(f"{name}{where}: found {problem}; expected YAML") from error
    except RecursionError as error:
        raise ConfigError(
            f"{name}: found a value nested too deep; expected a plain mapping of labels to meanings"
        ) from error


def _pair(key: yaml.Node, value: yaml.Node, name: str) -> tuple[str, str]:
    where = f"{name}, line {_line(key)}"
    if not isinstance(key, yaml.ScalarNode) or not key.value.strip():
        raise ConfigError(f"{where}: found {_kind(key)} for a label; expected a channel's label")
    label = key.value
    if not isinstance(value, yaml.ScalarNode):
        raise ConfigError(f"{where}: label {label!r}: found {_kind(value)}; expected {_EXPECTED}")
    meaning = " ".join(value.value.split())
    if plain(meaning) != IGNORE and not _understood(meaning):
        raise ConfigError(f"{where}: label {label!r}: found {meaning!r}; expected {_EXPECTED}")
    return label, meaning


def _understood(meaning: str) -> bool:
    if not any(character.isalnum() for character in meaning):
        return False
    return parse_label(meaning).what != UNKNOWN


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _kind(node: yaml.Node) -> str:
    names = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}
    return next((text for kind, text in names.items() if isinstance(node, kind)), "no text")
