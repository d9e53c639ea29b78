"""Gather what is known of one recording and its model, and write the report page."""

from __future__ import annotations

import json
from pathlib import Path

from sleepmami import storage
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.report.night_report import NightReport, render
from sleepmami.signals.pairing import find_annotation
from sleepmami.signals.preprocess import load_night
from sleepmami.training.checkpoint import load_bundle


def write_night_report(
    recording: Path, bundle: Path, output: Path, embedding: NightEmbedding, *, vectors: Path
) -> Path:
    """Write `output`, one self-contained HTML file, and return it.

    A scoring is used when one lies beside the recording, or in a folder `annotations` beside the
    recording's folder.

    Args:
        recording: the EDF that was embedded.
        bundle: the model that embedded it, with its training metrics.
        output: the page.
        embedding: the recording's vectors.
        vectors: the file they were written to.
    """
    folders = [recording.parent, recording.parent.parent / "annotations"]
    scorings = [file for folder in folders if folder.is_dir() for file in _scorings(folder)]
    annotation = find_annotation(str(recording), scorings)
    night = load_night(
        recording,
        load_bundle(str(bundle)).preprocess,
        recording_id=recording.stem,
        annotation=annotation,
    )
    report = NightReport(
        night=night,
        micro=embedding.micro,
        macro=embedding.macro,
        epoch_valid=embedding.epoch_valid,
        info=embedding.info,
        micro_history=_history(bundle / "micro" / "metrics.jsonl"),
        macro_history=_history(bundle / "macro_metrics.jsonl"),
        files={
            "recording": str(recording),
            "vectors": str(vectors),
            "scoring": annotation or "none found",
            "bundle": str(bundle),
            "this page": str(output),
        },
    )
    storage.write_bytes(str(output), render(report).encode())
    return output


def _scorings(folder: Path) -> list[str]:
    return storage.list_files(str(folder), (".xml", ".edf"), recursive=False)


def _history(file: Path) -> list[dict[str, float]]:
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]
