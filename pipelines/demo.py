"""`sleepmami demo`: the whole walk with the tiny preset, ending in an HTTP answer and a report.

Each stage is the one the command of its name runs; nothing here is special to the demo but the
choice of folders. Stages that are already complete under the folder are not repeated.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx

from pipelines.embed_file import embed_file
from pipelines.embed_nights import embed_cohort, embed_micro_nights
from pipelines.ingest_edf import ingest
from pipelines.pretrain_macro import pretrain_macro
from pipelines.pretrain_micro import pretrain_micro
from pipelines.progress import console
from pipelines.ray_session import ray_session
from pipelines.simulate import simulate_cohort
from pipelines.write_report import write_night_report
from serve_apps.embedding_app import start, stop
from sleepmami.config_edit import replace_at
from sleepmami.errors import ServiceError
from sleepmami.presets import Preset, preset
from sleepmami.signals.preprocess import load_night
from sleepmami.tables import lance_io
from sleepmami.training.checkpoint import bundle_exists

REQUEST_TIMEOUT_S = 300.0


def run_demo(folder: Path, edf: Path | None = None) -> None:
    """Walk from simulated EDFs to a served bundle, then embed one recording and report on it.

    Args:
        folder: everything is written below it: `bundle` is the trained model, `report.html` the
            report.
        edf: recording of the user; without it a simulated night that training has not seen.

    Raises:
        SleepMaMiError: whatever a stage raises.
    """
    began = time.perf_counter()
    settings = preset("tiny")
    if edf is not None:
        alone = replace_at(settings.ingest.preprocess, {"truncated": "reject"})  # as embedding does
        load_night(edf, alone, recording_id=edf.stem)  # before minutes of work
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / "bundle"
    with ray_session():
        if not bundle_exists(str(bundle)):
            _train(folder, bundle, settings)
        recording = edf or _unseen_night(folder)
        vectors = folder / f"{recording.stem}.npz"
        console.rule("one recording")
        embedding = embed_file(str(recording), str(bundle), str(vectors), settings.embed)
        info = embedding.info
        used = ", ".join(f"{c['modality']} from {c['label']}" for c in info["channels_used"])
        console.print(f"{recording}: {info['num_epochs']} epochs; {used}")
        console.print(f"missing: {', '.join(info['modalities_missing']) or 'none'}  ->  {vectors}")
        report = write_night_report(
            recording, bundle, folder / "report.html", embedding, vectors=vectors
        )
        console.rule("HTTP")
        _ask(recording, bundle, settings)
    console.rule()
    console.print(f"report: {report}    bundle: {bundle}    {time.perf_counter() - began:.0f} s")


def _train(folder: Path, bundle: Path, settings: Preset) -> None:
    simulated, corpus = folder / "simulated", folder / "corpus"
    console.rule("simulated nights")
    simulate_cohort(str(simulated), settings.simulate)
    ingest(
        str(simulated / "edf"),
        str(corpus),
        # nobody to protect, and the report names its night
        replace_at(settings.ingest, {"cohort": "simulated", "recording_ids": "file_name"}),
        metadata=str(simulated / "metadata.csv"),
        annotations=str(simulated / "annotations"),
    )
    console.rule("Micro-Encoder")
    pretrain_micro(str(corpus), str(bundle), settings.micro)
    embed_micro_nights(str(corpus), str(bundle), settings.embed)
    console.rule("Macro-Encoder")
    pretrain_macro(str(corpus), str(bundle), settings.macro)
    embed_cohort(str(corpus), str(bundle), str(folder / "cohort"), settings.embed)


def _unseen_night(folder: Path) -> Path:
    """A simulated night outside the train split."""
    table = lance_io.read_table(
        str(folder / "corpus" / "recordings.lance"),
        columns=["recording_id"],
        filter="split <> 'train'",
    )
    ids = sorted(table.column("recording_id").to_pylist())
    if not ids:
        raise ServiceError(f"{folder}: found no held-out simulated night; expected at least one")
    return folder / "simulated" / "edf" / f"{ids[0]}.edf"


def _ask(recording: Path, bundle: Path, settings: Preset) -> None:
    """POST the recording to a service started for it, and show the exchange."""
    url = start(str(bundle), replace_at(settings.serve, {"port": 0}))
    try:
        console.print("$ curl -H 'Accept: application/json' --data-binary \\")
        console.print(f"    @{recording} {url}/v1/embeddings", highlight=False)
        answer = httpx.post(
            f"{url}/v1/embeddings",
            content=recording.read_bytes(),
            headers={"Accept": "application/json", "Content-Type": "application/octet-stream"},
            timeout=REQUEST_TIMEOUT_S,
            trust_env=False,
        )
    finally:
        stop()
    if answer.status_code != httpx.codes.OK:
        raise ServiceError(f"{url}: found status {answer.status_code}: {answer.text}; expected 200")
    console.print(
        f"{answer.status_code} {answer.headers['content-type']}, {len(answer.content)} bytes"
    )
    console.print(json.dumps(shortened(answer.json()), indent=2), highlight=False, soft_wrap=True)


def shortened(value: Any, limit: int = 48) -> Any:  # Any: JSON
    """JSON whose long strings and lists are cut to one line each, for printing."""
    if isinstance(value, dict):
        return {key: shortened(inner, limit) for key, inner in value.items()}
    if (
        isinstance(value, list)
        and len(json.dumps(value)) > limit
        and not isinstance(value[0], dict)
    ):
        return f"{json.dumps(value)[:limit]} ... {len(value)} items"
    if isinstance(value, list):
        return [shortened(inner, limit) for inner in value]
    if isinstance(value, str) and len(value) > 2 * limit:
        return f"{value[:limit]} ... {len(value)} characters"
    return value
