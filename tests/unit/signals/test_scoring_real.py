"""Every real scoring beside the checkout reads, and counts as a few lines written here count it."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sleepmami.psg import EventKind, Stage
from sleepmami.signals.events import event_mask
from sleepmami.signals.scorings import Scoring, read_scoring

UNKNOWN, WAKE, N1, N2, N3, REM = (int(stage) for stage in Stage)


def counts_of(scoring: Scoring) -> Counter[int]:
    assert scoring.hypnogram is not None
    counts = Counter(scoring.hypnogram.tolist())
    del counts[UNKNOWN]
    return counts


def agree_with_a_count_of_codes(files: list[Path]) -> None:
    for file in files:
        first, *rows = file.read_text().splitlines()
        names = first.split("\t")
        column = names.index("stage_hum" if "stage_hum" in names else "stage_ai")
        codes = Counter(int(row.split("\t")[column]) for row in rows)
        scoring = read_scoring(file, len(rows))
        assert counts_of(scoring) == Counter({code: codes[code] for code in range(5) if codes[code]})  # fmt: skip
        assert scoring.events is None


def tables_of(shared_data: Path) -> list[Path]:
    files = sorted((shared_data / "annotations" / "ds005555").glob("*/eeg/*_events.tsv"))
    assert len(files) == 256
    return files


def test_some_event_tables_of_the_headband_cohort(shared_data: Path) -> None:
    agree_with_a_count_of_codes(tables_of(shared_data)[::24])


@pytest.mark.endurance
def test_all_event_tables_of_the_headband_cohort(shared_data: Path) -> None:
    agree_with_a_count_of_codes(tables_of(shared_data))


def test_all_listings_of_the_slpdb(shared_data: Path) -> None:
    stages = {"W": WAKE, "1": N1, "2": N2, "3": N3, "4": N3, "R": REM}
    apneas = {"OA": EventKind.OBSTRUCTIVE_APNEA, "X": EventKind.OBSTRUCTIVE_APNEA, "CA": EventKind.CENTRAL_APNEA, "CAA": EventKind.CENTRAL_APNEA, "H": EventKind.HYPOPNEA, "HA": EventKind.HYPOPNEA}  # fmt: skip
    files = sorted((shared_data / "annotations" / "slpdb").glob("*.an"))
    assert len(files) == 18
    for file in files:
        texts = [line.split("\t")[1].split() for line in file.read_text().splitlines()[1:] if line]
        expected = Counter(stages[words[0]] for words in texts if words[0] in stages)
        breathing = Counter(apneas[word] for words in texts for word in words if word in apneas)
        arousals = sum(word in ("HA", "X", "CAA", "LA", "A") for words in texts for word in words)
        scoring = read_scoring(file, 1000)
        assert counts_of(scoring) == expected
        found = Counter(event.kind for event in scoring.events or ())
        assert found.pop(EventKind.AROUSAL, 0) == arousals
        assert found == breathing


@pytest.mark.endurance
def test_three_tables_of_one_st_vincents_night_agree(shared_data: Path) -> None:
    folder, clock_s = shared_data / "ucddb", 22 * 3600 + 56 * 60 + 30
    texts, codes, alone = (
        read_scoring(folder / name, 1000, clock_s=clock_s)
        for name in (
            "spo2_pulse_1hz_ucddb027.csv",  # stages in words
            "ucddb027_04_merged.csv",  # stages in numbers: REM is 1
            "ucddb027_02_apnea_annotations.csv",  # events only, a row per second
        )
    )
    np.testing.assert_array_equal(texts.hypnogram, codes.hypnogram)
    assert alone.hypnogram is None
    assert alone.events == codes.events
    breathing = set(EventKind) - {EventKind.AROUSAL}
    masks = [event_mask(s.events or (), breathing, 30_000) for s in (texts, codes, alone)]
    np.testing.assert_array_equal(masks[0], masks[1])
    rows = (folder / "ucddb027_02_apnea_annotations.csv").read_text().splitlines()[1:]
    scored = [row for row in rows if row.endswith(("-O", "-C", "-M"))]
    assert masks[2].sum() == len(scored)


def test_epochs_of_st_vincents_nights(shared_data: Path, tmp_path: Path) -> None:
    first, *lines = (shared_data / "ucddb" / "epochs_dev.csv").read_text().splitlines()
    nights = sorted({line.partition(",")[0] for line in lines})
    for night in nights[:3]:
        own = [line for line in lines if line.startswith(night + ",")]
        (tmp_path / "x.csv").write_text("\n".join([first, *own]))
        scoring = read_scoring(tmp_path / "x.csv", len(own))
        stored = np.load(shared_data / "ucddb" / f"{night}.npz")["stage"]
        codes = Counter(stored.tolist())
        expected = {WAKE: codes[0], REM: codes[1], N1: codes[2], N2: codes[3], N3: codes[4] + codes[5]}  # fmt: skip
        found = counts_of(scoring)
        assert {s: n - found[s] for s, n in expected.items() if s != WAKE} == dict.fromkeys((REM, N1, N2, N3), 0)  # fmt: skip
        starts = {
            (float(start), kind.strip()[:3])
            for row in csv.DictReader([first, *own])
            for start, kind in zip(
                row["event_start_sec"].split(";"), row["event_types"].split(";"), strict=True
            )
            if start
        }
        assert len(scoring.events or ()) == len(starts)


@pytest.mark.parametrize(
    "file",
    [
        "annotations/ds005555/participants.tsv", "annotations/ds005555/README",
        "annotations/ds005555/channels.tsv", "annotations/ds005555/participants.json",
        "annotations/slpdb/slp01a.hea", "annotations/slpdb/slp01a.rr",
        "annotations/other/SC-subjects.xls", "annotations/other/ucddb_audit.csv",
        "MANIFEST.tsv", "README.md", "ucddb/subjects_dev.csv", "ucddb/epochs_dev.csv", "psg/n16.hea",
    ],
)  # fmt: skip
def test_tables_of_other_things_are_refused(shared_data: Path, file: str) -> None:
    with pytest.raises(Exception, match="annotation_invalid"):
        read_scoring(shared_data / file, 1000)
