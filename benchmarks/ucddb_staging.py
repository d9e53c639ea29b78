"""Staging and apnea by epoch of UCDDB's 15 people: band powers, encoders, YASA, on the same epochs.

    python benchmarks/ucddb_staging.py --json FILE --yasa PYTHON --bundle pretrained=RUN

Probes are linear, fitted on 10 people and tested on 5, in three folds by person. YASA was trained
on other people (NSRR) and is tested on the same epochs as it is. docs/evaluation.md says what these
files are: one EEG, a third of each night.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from provenance import git_state, machine

from pipelines.embed_band_powers import embed_band_powers
from pipelines.embed_nights import embed_cohort
from pipelines.ingest_edf import ingest
from pipelines.ray_session import ray_session
from sleepmami import storage
from sleepmami.config import (
    BandPowersConfig,
    EmbedConfig,
    IngestConfig,
    Level,
    ProbeConfig,
    ProbeSplitConfig,
    Task,
)
from sleepmami.evaluation import metrics
from sleepmami.evaluation.bootstrap import estimate, resampled_counts
from sleepmami.evaluation.epoch_tasks import FIGURES
from sleepmami.evaluation.probe import run_probe
from sleepmami.evaluation.targets import STAGES
from tests.ucddb import FOLDER, UcddbNight, ucddb_nights, write_cohort

FOLDS = ProbeSplitConfig(kind="folds", num_folds=3)
TASKS: tuple[Task, ...] = ("staging", "apnea")
LEVELS: tuple[Level, ...] = ("micro", "macro")
CLASSES = tuple(stage.name for stage in STAGES)
# Our arrays have no unit; read as 100 microvolts they have the deviations of an EEG in 14 of 15
# people (20 to 40). `own_25` gives every night the same median deviation instead.
YASA_SCALES = ("as_100_uv", "own_25_uv")
Truth = dict[tuple[str, int], int]  # (recording, epoch) -> stage


def corpus_of(work: str) -> str:
    """The cohort, ingested; what is there already stays."""
    edfs, corpus = Path(work, "edfs"), str(Path(work, "corpus"))
    if not edfs.exists():
        write_cohort(edfs)
    config = IngestConfig(cohort="ucddb", recording_ids="file_name")
    ingest(str(edfs), corpus, config, metadata=[str(FOLDER / "subjects_dev.csv")])
    return corpus


def probed(system: str, embeddings: str, corpus: str) -> tuple[list[dict[str, Any]], Truth]:
    """Results of both tasks at both levels, and the stages that were asked."""
    rows, truth = [], Truth()
    for task in TASKS:
        for level in LEVELS:

            def see(columns: Mapping[str, Sequence[Any]], task: Task = task) -> None:
                if task == "staging":
                    names, epochs = columns["recording_id"], columns["epoch"]
                    for name, epoch, stage in zip(names, epochs, columns["truth"], strict=True):
                        truth[str(name), int(epoch)] = CLASSES.index(stage)

            config = ProbeConfig(level=level, split=FOLDS)
            result = run_probe(task, embeddings, [corpus], config, see)
            plain = result.to_dict() | {"embeddings": system, "labels": ["ucddb"]}
            rows.append({"system": system, **plain})
            print(system, task, level, _told(rows[-1]), flush=True)
    return rows, truth


def yasa_rows(python: str, truth: Truth, work: str) -> list[dict[str, Any]]:
    """YASA on exactly the epochs in `truth`, in the shape of a probe's result."""
    nights = {night.name: night for night in ucddb_nights()}
    epochs_of = {
        name: np.array(sorted(epoch for own, epoch in truth if own == name)) for name in nights
    }
    rows = []
    for scale in YASA_SCALES:
        given, found = Path(work, f"yasa_{scale}.npz"), Path(work, f"yasa_{scale}_out.npz")
        arrays = {
            name: in_microvolts(nights[name], epochs, scale)
            for name, epochs in epochs_of.items()
            if len(epochs)
        }
        np.savez(given, **arrays)
        script = Path(__file__).parent / "yasa_stages.py"
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [python, str(script), str(given), str(found)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=clean)
        with np.load(found) as guesses:
            said = {name: guesses[name] for name in guesses.files}
        scored = score(truth, epochs_of, said)
        version = ran.stdout.split()[-1]
        rows.append({"system": f"yasa-{version}", "level": scale, "task": "staging", **scored})
        print(rows[-1]["system"], scale, _told(rows[-1]), flush=True)
    return rows


def in_microvolts(night: UcddbNight, epochs: NDArray[np.int64], scale: str) -> NDArray[np.float32]:
    """The asked epochs of a night's EEG."""
    eeg_LT = night.eeg[epochs]
    if not night.have[epochs].all():
        raise SystemExit(f"{night.name}: found epochs without signal; expected the recorded ones")
    gain = 100.0 if scale == "as_100_uv" else 25.0 / float(np.median(eeg_LT.std(1)))
    return eeg_LT * np.float32(gain)


def score(
    truth: Truth, epochs_of: Mapping[str, NDArray[np.int64]], said: Mapping[str, NDArray[np.int8]]
) -> dict[str, Any]:
    """Accuracy, macro F1, kappa with intervals over people, F1 per stage, confusion."""
    counts_SCC = np.stack(
        [
            metrics.confusion(
                np.array([truth[name, epoch] for epoch in epochs_of[name].tolist()]),
                guess,
                len(CLASSES),
            )
            for name, guess in sorted(said.items())
        ]
    )
    drawn_BS = resampled_counts(len(said), 1000, 0)
    summed_BCC = np.einsum("bs,sij->bij", drawn_BS, counts_SCC)
    values = {name: figure(summed_BCC) for name, figure in FIGURES.items()}
    values |= {
        f"f1_{label}": metrics.class_f1(summed_BCC)[:, place] for place, label in enumerate(CLASSES)
    }
    return {
        "num_subjects": len(said),
        "num_rows": int(counts_SCC.sum()),
        "figures": [
            {"name": name, "group": "", **_plain(value_B)} for name, value_B in values.items()
        ],
        "confusion": {"classes": CLASSES, "counts": counts_SCC.sum(0).tolist()},
    }


def _plain(value_B: metrics.Floats) -> dict[str, Any]:
    found = estimate(value_B, 0.95)
    names = ("value", "low", "high", "num_undefined")
    return {name: getattr(found, name) for name in names}


def _told(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{f['name']} {f['value']:.3f} ({f['low']:.3f} .. {f['high']:.3f})"
        for f in row["figures"][:3]
    )


def merged(file: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """These rows in place of earlier ones of the same systems."""
    earlier = json.loads(file.read_text())["rows"] if file.exists() else []
    ours = {row["system"] for row in rows}
    kept = [row for row in earlier if row["system"] not in ours]
    staging = {row["num_rows"] for row in kept + rows if row["task"] == "staging"}
    if len(staging) > 1:
        raise SystemExit(f"found {sorted(staging)} staged epochs; expected the same in all rows")
    made = {
        "machine": machine(),
        "code": git_state("../sleepmami", "../pipelines", "../benchmarks"),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return {"rows": kept + [{**row, "made": made} for row in rows]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="rows of other systems stay")
    parser.add_argument("--work", help="folder for corpus and embeddings; default a temporary one")
    parser.add_argument("--yasa", help="a Python that has yasa")
    parser.add_argument(
        "--bundle", action="append", default=[], metavar="NAME=URI", help="several may be given"
    )
    given = parser.parse_args()
    if not FOLDER.is_dir():
        raise SystemExit(f"{FOLDER}: found no folder; expected UCDDB's arrays")
    with tempfile.TemporaryDirectory() as temporary, ray_session():
        work = given.work or temporary
        corpus = corpus_of(work)
        bands = storage.join(work, "bands")
        embed_band_powers(corpus, bands, BandPowersConfig())
        rows, truth = probed("band-powers", bands, corpus)
        for named in given.bundle:
            name, _, uri = named.partition("=")
            output = storage.join(work, f"cohort-{name}")
            embed_cohort(corpus, uri, output, EmbedConfig())
            own, asked = probed(name, output, corpus)
            rows += own
            if asked != truth:
                raise SystemExit(f"{name}: asked {len(asked)} epochs; expected the {len(truth)}")
        if given.yasa:
            rows += yasa_rows(given.yasa, truth, work)
    given.json.write_text(json.dumps(merged(given.json, rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
