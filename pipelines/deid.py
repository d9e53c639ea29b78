"""`sleepmami deid IN OUT`: clean copies of a recording, or of all recordings below a folder."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.progress import print_new_key
from pipelines.recording_names import RECORDING_SUFFIXES, names_of
from sleepmami import storage
from sleepmami.errors import ConfigError, RecordingCode, RecordingError
from sleepmami.signals.deidentify import Deidentified, deidentify
from sleepmami.tables.pseudonyms import SiteKey, require_outside, write_linkage


@dataclass(frozen=True, kw_only=True, slots=True)
class DeidOptions:
    """How the copies are made.

    Attributes:
        keep_clock: keep the time of day of the start; the date always goes.
        keep_names: copies keep the names and folders of their recordings; otherwise each is named
            by the recording's pseudonym.
        overwrite: make copies again that are there.
        linkage: file for a CSV of which recording has which pseudonym; None writes none.
        site_key: file of the key behind the pseudonyms; None takes the site's own.
    """

    keep_clock: bool = True
    keep_names: bool = False
    overwrite: bool = False
    linkage: str | None = None
    site_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeidSummary:
    """What became of the recordings.

    Attributes:
        there: copies made earlier, left alone.
        written: copies made now.
        cut_short: of those, copies of recordings that hold less than their header says.
        texts_removed: annotations of those copies whose text was not kept.
        failed: recordings without a copy, and the code of each one's error.
    """

    there: int
    written: int
    cut_short: int
    texts_removed: int
    failed: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        parts = [f"{self.written} written", f"{self.there} there already"]
        if self.cut_short:
            parts.append(f"{self.cut_short} of recordings that were cut short")
        parts += [f"{self.texts_removed} annotation texts removed", f"{len(self.failed)} failed"]
        return ", ".join(parts)


def deid(
    source: str,
    target: str,
    options: DeidOptions | None = None,
    *,
    show: Callable[[str], None] = print,
) -> DeidSummary:
    """Write clean copies; a recording that cannot be copied is reported and does not end the run.

    Args:
        source: a recording, or a folder of recordings.
        target: the copy's path, or an existing or new folder for a folder's copies. A run that was
            interrupted goes on where it was.
        options: how.
        show: gets a line per failed recording, naming it as it is named in `source`.

    Raises:
        ConfigError: paths that are not on this machine or lie in each other, or no recording.
        RecordingError: a single recording cannot be copied.
    """
    options = options or DeidOptions()
    for path in (source, target):
        if not storage.is_local(path):
            raise ConfigError(f"{path}: found a URI; expected a path on this machine")
    source, target = storage.absolute(source), storage.absolute(target)
    if options.keep_names and (options.linkage or options.site_key):
        raise ConfigError("found kept names and a site key or linkage; expected one of them")
    if not os.path.isdir(source):
        if options.linkage:
            raise ConfigError(f"{source}: found a linkage file; expected it with a folder only")
        return _one(source, target, options)
    _require_apart(source, target)
    for file, what in ((options.linkage, "linkage"), (options.site_key, "site key")):
        if file:
            require_outside(file, target, what)
    files = storage.list_files(source, RECORDING_SUFFIXES, any_name=True)
    if not files:
        raise ConfigError(f"{source}: found no file ending in {RECORDING_SUFFIXES}; expected EDFs")
    misnamed = [os.path.relpath(f, source) for f in files if not storage.is_nameable(f)]
    relative = [os.path.relpath(file, source) for file in files if storage.is_nameable(file)]
    names = relative if options.keep_names else _pseudonyms(relative, options.site_key)
    failed = [(storage.shown(file), RecordingCode.UNREADABLE.value) for file in misnamed]
    for file, code in failed:
        show(f"{file}: {code}, its name is not UTF-8")
    summary = _all(source, target, relative, names, options, show)
    summary = replace(summary, failed=(*failed, *summary.failed))
    if options.linkage:
        without_copy = {file for file, _ in summary.failed}
        pairs = [pair for pair in zip(relative, names, strict=True) if pair[0] not in without_copy]
        rows = ((file, posixpath.splitext(name)[0], "") for file, name in pairs)
        write_linkage(options.linkage, target, rows)
    return summary


def _one(source: str, target: str, options: DeidOptions) -> DeidSummary:
    """The copy of one recording; in a folder it gets a name of its own."""
    if os.path.isdir(target):
        file = os.path.basename(source)
        if not file.lower().endswith(RECORDING_SUFFIXES):
            raise ConfigError(
                f"{source}: found another ending; expected one of {RECORDING_SUFFIXES}"
            )
        name = file if options.keep_names else _pseudonyms([file], options.site_key)[0]
        target = os.path.join(target, name)
    done = deidentify(source, target, keep_clock=options.keep_clock, overwrite=options.overwrite)
    return _summary([done])


def _all(
    source: str,
    target: str,
    files: Sequence[str],
    names: Sequence[str],
    options: DeidOptions,
    show: Callable[[str], None],
) -> DeidSummary:
    there = 0
    written: list[Deidentified] = []
    failed: list[tuple[str, str]] = []
    for file, name in zip(files, names, strict=True):
        path = os.path.join(target, name)
        if os.path.lexists(path) and not options.overwrite:
            there += 1
            continue
        _make_folder(os.path.dirname(path))
        try:
            done = deidentify(
                os.path.join(source, file),
                path,
                keep_clock=options.keep_clock,
                overwrite=options.overwrite,
            )
            written.append(done)
        except (RecordingError, ConfigError) as error:
            failed.append((file, error.code))
            show(f"{file}: {error.code}")  # what was found may quote the header
    return _summary(written, there, failed)


def _summary(
    written: Sequence[Deidentified], there: int = 0, failed: Sequence[tuple[str, str]] = ()
) -> DeidSummary:
    return DeidSummary(
        there=there,
        written=len(written),
        cut_short=sum(not done.complete for done in written),
        texts_removed=sum(done.texts_removed for done in written),
        failed=tuple(failed),
    )


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; expected a folder to write to") from None


def _require_apart(source: str, target: str) -> None:
    """Copies beside their originals would be copied by the next run."""
    one, other = Path(source).resolve(), Path(target).resolve()
    if one == other or one in other.parents or other in one.parents:
        raise ConfigError(f"{target}: found {source} around or inside it; expected a place apart")
    if os.path.lexists(target) and not os.path.isdir(target):
        raise ConfigError(f"{target}: found a file; expected a folder for the copies of {source}")


def _pseudonyms(files: Sequence[str], site_key: str | None) -> list[str]:
    """A name for each copy, in one folder: folders may be named after people too.

    It is the recording_id that an ingest of the originals gives, under the same key.
    """
    key = SiteKey.load(site_key)
    print_new_key(key.made)
    return [
        key.pseudonym("recording", name) + posixpath.splitext(file)[1].lower()
        for file, name in names_of(files).items()
    ]
