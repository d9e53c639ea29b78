"""Gather what is known of a recording, or of a cohort's night vectors, and write the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sleepmami import storage
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.report import cohort_report
from sleepmami.report.cohort_report import CohortReport
from sleepmami.report.night_report import NightReport, render
from sleepmami.signals.pairing import find_annotation
from sleepmami.signals.preprocess import load_night
from sleepmami.tables import lance_io
from sleepmami.tables.arrays import list_values
from sleepmami.tables.schemas import night_embeddings_schema
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


def write_cohort_report(table_uri: str, output: str) -> str:
    """One self-contained HTML file about the nights of a table; returns `output`.

    Args:
        table_uri: night_embeddings.lance; only short columns of it are read.
        output: the page.
    """
    columns = ["subject_id", "cohort", "age_years", "sex", "bmi", "night", "model_id"]
    table = lance_io.read_table(
        table_uri, columns=[*columns, "weights_sha256"], schema=night_embeddings_schema()
    )
    vectors = np.stack([np.asarray(v, np.float32) for v in list_values(table.column("night"))])
    sex = table.column("sex").to_pylist()
    report = CohortReport(
        vectors=vectors,
        subject_id=table.column("subject_id").to_pylist(),
        cohort=table.column("cohort").to_pylist(),
        age_years=np.array(table.column("age_years").to_pylist(), np.float64),  # None becomes NaN
        bmi=np.array(table.column("bmi").to_pylist(), np.float64),
        female=np.array([np.nan if s is None else s == "female" for s in sex], np.float64),
        model_id=table.column("model_id")[0].as_py(),  # a table holds vectors of one model
        weights_sha256=table.column("weights_sha256")[0].as_py(),
    )
    storage.write_bytes(output, cohort_report.render(report).encode())
    return output


def _scorings(folder: Path) -> list[str]:
    return storage.list_files(str(folder), (".xml", ".edf"), recursive=False)


def _history(file: Path) -> list[dict[str, float]]:
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]
