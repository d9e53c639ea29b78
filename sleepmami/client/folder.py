"""A folder of recordings to a folder of embeddings: what is done is skipped, no file ends it.

Each result is OUT/NAME.EDF.npz, written whole or not at all. It says which bytes of which time it
was made of, and with which settings, so nothing else has to be kept; the vectors of one folder are
of one model, level and number type.
"""

import collections
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sleepmami import storage
from sleepmami.client.answers import NOT_OURS
from sleepmami.client.calls import ANSWER_INVALID, NO_ANSWER
from sleepmami.client.flows import Flows, Level, levels_of
from sleepmami.client.steps import Flow, together, work
from sleepmami.client.tls import TLS_REFUSED
from sleepmami.client.uploading import FileSource, Progress
from sleepmami.errors import ApiError, ClientError, RecordingCode, require

SUFFIXES = (".edf", ".bdf", ".rec")
SUMMARY = "summary.json"
SOURCE = "source"  # array of a result: JSON of what it was made of
MIXED = "weights_mixed"
# what the next file would meet, too
STOPS = (
    *(MIXED, NO_ANSWER, ANSWER_INVALID, TLS_REFUSED),
    *("unauthorized", "model_unknown", "quota_exceeded"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderSummary:
    """What came of each file; names are relative to the folder.

    Attributes:
        failed: name -> code.
        not_tried: left over when something stopped the run; run it again.
        stopped: code of what did.
        weights_sha256: of all vectors in the folder of results.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    not_tried: list[str] = field(default_factory=list)
    stopped: str | None = None
    weights_sha256: str

    def __str__(self) -> str:
        """One line for people."""
        codes = collections.Counter(self.failed.values())
        why = "".join(f", {code} {count}" for code, count in sorted(codes.items()))
        text = f"{len(self.done)} done, {len(self.skipped)} skipped, {len(self.failed)} failed{why}"
        return text + (
            f"; stopped by {self.stopped}, {len(self.not_tried)} not tried" if self.stopped else ""
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One run over a folder."""

    folder: str
    out: str
    settings: Mapping[str, Any]  # Any: JSON values; level and dtype
    weights_sha256: str
    todo: list[str]
    skipped: list[str]
    misnamed: list[str]  # as shown: the service is told names in UTF-8

    def target(self, name: str) -> str:
        return storage.join(self.out, f"{name}.npz")

    def path(self, name: str) -> str:
        return storage.join(self.folder, name)


def embed_folder(
    flows: Flows,
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    level: Level,
    dtype: str,
    model: str | None,
    at_once: int,
    tell: Progress,
) -> Flow[FolderSummary]:
    """Embed what is in a folder and below it, and write the summary beside the results.

    Args:
        flows: of the client.
        folder: of EDF and BDF files.
        out: of the results; made when absent.
        level: of `Client.embed`.
        dtype: the same.
        model: by name; without it the default one as it is now, for the whole run.
        at_once: files in flight.
        tell: how many files are through.

    Raises:
        ClientError: weights_mixed or folder_mismatch when `out` holds results of another model or
            of other settings.
        ApiError: /info cannot be had.
        OSError: a result cannot be written.
    """
    require(at_once >= 1, "at_once", at_once, ">= 1")
    info = yield from flows.info()
    chosen = _model_of(info, model)
    settings = {"level": sorted(set(levels_of(level))), "dtype": dtype}
    job = yield from work(
        lambda: _plan(os.fspath(folder), os.fspath(out), settings, chosen["weights_sha256"])
    )
    total = len(job.todo) + len(job.skipped)
    stopped: list[str] = []
    outcomes: dict[str, str] = {}

    def one(name: str) -> Flow[None]:
        if stopped:
            return
        code = yield from _embed_one(flows, job, name, chosen["name"])
        outcomes[name] = code
        if code in STOPS:
            stopped.append(code)
        tell(len(job.skipped) + len(outcomes), total)

    tell(len(job.skipped), total)
    yield from together([one(name) for name in job.todo], at_once)
    summary = FolderSummary(
        done=[name for name in job.todo if outcomes.get(name) == ""],
        skipped=job.skipped,
        failed={
            **dict.fromkeys(job.misnamed, RecordingCode.UNREADABLE.value),
            **{name: outcomes[name] for name in job.todo if outcomes.get(name)},
        },
        not_tried=[name for name in job.todo if name not in outcomes],
        stopped=stopped[0] if stopped else None,
        weights_sha256=job.weights_sha256,
    )
    text = json.dumps(asdict(summary), indent=2) + "\n"
    yield from work(lambda: storage.write_bytes(storage.join(job.out, SUMMARY), text.encode()))
    return summary


def _embed_one(flows: Flows, job: _Job, name: str, model: str) -> Flow[str]:
    """The code of why a file failed; empty when its result is written."""
    level, dtype = job.settings["level"], job.settings["dtype"]
    try:
        source = yield from work(lambda: FileSource(job.path(name)))
        night = yield from flows.embed_source(source, level, dtype, model, _no_progress)
    except (ApiError, ClientError) as error:
        return error.code
    except OSError:
        return RecordingCode.UNREADABLE.value
    if night.weights_sha256 != job.weights_sha256:
        return MIXED  # the service was given other weights meanwhile
    made_of = {"bytes": source.length, "mtime_ns": source.mtime_ns, **job.settings}
    yield from work(lambda: storage.write_bytes(job.target(name), night.to_npz(source=made_of)))
    return ""


def _plan(folder: str, out: str, settings: Mapping[str, Any], weights_sha256: str) -> _Job:
    base = storage.absolute(folder)
    paths = storage.list_files(base, SUFFIXES, any_name=True)
    names = [os.path.relpath(path, base) for path in paths]
    _require_one_model(out, weights_sha256)
    job = _Job(
        folder=base,
        out=storage.absolute(out),
        settings=settings,
        weights_sha256=weights_sha256,
        todo=[],
        skipped=[],
        misnamed=[storage.shown(name) for name in names if not storage.is_nameable(name)],
    )
    for name in filter(storage.is_nameable, names):
        (job.skipped if _is_done(job, name) else job.todo).append(name)
    return job


def _require_one_model(out: str, weights_sha256: str) -> None:
    """Also of results whose recordings are elsewhere by now."""
    if not storage.exists(out):
        return
    for path in storage.list_files(out, (".npz",)):
        found = _account_of(path)
        if found is not None and found[0] != weights_sha256:
            raise ClientError(
                MIXED,
                f"{out}: found vectors of the weights {found[0][:12]}, the service has "
                f"{weights_sha256[:12]}; expected another folder, or the same model",
            )


def _is_done(job: _Job, name: str) -> bool:
    target = job.target(name)
    if not os.path.lexists(target):
        return False
    account = _account_of(target)
    settings = {} if account is None else {key: account[1].get(key) for key in job.settings}
    if account is None or settings != dict(job.settings):
        raise ClientError(
            "folder_mismatch",
            f"{target}: found {settings or 'no result of ours'}; expected {dict(job.settings)}, "
            "or another folder",
        )
    try:
        state = Path(job.path(name)).stat()
    except OSError:
        return False  # will fail, and say so
    made_of = (account[1].get("bytes"), account[1].get("mtime_ns"))
    return made_of == (state.st_size, state.st_mtime_ns)


def _account_of(path: str) -> tuple[str, dict[str, Any]] | None:  # Any: JSON values
    """Weights and source of a result; None when it is none of ours. Reads no vectors."""
    try:
        with np.load(path, allow_pickle=False) as file:
            info, source = (json.loads(str(file[name])) for name in ("info", SOURCE))
        return str(info["weights_sha256"]), dict(source)
    except (OSError, *NOT_OURS):
        return None


def _model_of(info: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:  # Any: JSON
    for model in info.get("models", []):
        if model["name"] == name or (name is None and model["default"]):
            found: Mapping[str, Any] = model
            return found
    raise ApiError(
        "model_unknown", None, "There is no model of that name; see models of /info.", ""
    )


def _no_progress(done: int, total: int) -> None:
    """The bar counts files."""
