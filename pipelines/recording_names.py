"""What recordings are called before pseudonyms are made: their path without the ending.

One rule for every command, so that a de-identified copy has the name an ingest gives its original.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

RECORDING_SUFFIXES = (".edf", ".bdf", ".rec")  # of files alike but for this, the first comes first


def names_of(paths: Sequence[str]) -> dict[str, str]:
    """The name of each path, relative to one folder; in the order of `paths`.

    Where files differ by the ending alone (night.edf and night.bdf), the one whose ending comes
    first in RECORDING_SUFFIXES has the short name and the others keep their ending.
    """
    taken = set(paths)
    names = {}
    for path in sorted(paths, key=_suffix_rank):
        short = without_ending(path)
        names[path] = path if short in taken else short
        taken.add(names[path])
    return {path: names[path] for path in paths}


def without_ending(path: str) -> str:
    """The path without the ending of a recording; other endings are part of the name."""
    stem, ending = posixpath.splitext(path)
    return stem if ending.lower() in RECORDING_SUFFIXES else path


def _suffix_rank(path: str) -> tuple[int, str]:
    return RECORDING_SUFFIXES.index(posixpath.splitext(path)[1].lower()), path
