"""A real cohort with real holes: 15 people, their stages and their apneas, as one ingest."""

import numpy as np
import pytest
from scipy.signal import resample

from pipelines.ingest_edf import ingest
from pipelines.stored_nights import corpus_versions, find_nights, read_night
from sleepmami.config import IngestConfig
from sleepmami.psg import EPOCH_S, EPOCH_SAMPLES, EventKind, Modality, Night, Stage
from sleepmami.signals.events import event_mask
from sleepmami.tables.schemas import Row
from tests.ucddb import DIGITAL_LIMIT, FOLDER, UcddbNight, ucddb_nights, write_cohort

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ../shared/data/ucddb"),
]
STAGES = {
    0: Stage.WAKE,
    1: Stage.REM,
    2: Stage.N1,
    3: Stage.N2,
    4: Stage.N3,
    5: Stage.N3,
    8: Stage.UNKNOWN,
}
BREATHING = tuple(kind for kind in EventKind if "pnea" in kind)


@pytest.fixture(scope="module")
def stored(
    ray_cluster: object, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Row, Night]]:
    base = tmp_path_factory.mktemp("ucddb")
    write_cohort(base / "edfs")
    config = IngestConfig(cohort="ucddb", recording_ids="file_name")
    corpus = str(base / "corpus")
    summary = ingest(
        str(base / "edfs"), corpus, config, metadata=[str(FOLDER / "subjects_dev.csv")]
    )
    assert summary.outcomes == {"ingested": 15}
    versions = corpus_versions(corpus)
    return {
        name: read_night(corpus, versions, night)
        for name, night in find_nights(corpus, versions).items()
    }


@pytest.fixture(scope="module")
def truth() -> list[UcddbNight]:
    return ucddb_nights()


def test_every_person_is_there_with_age_sex_bmi_and_ahi(
    stored: dict[str, tuple[Row, Night]],
) -> None:
    assert len(stored) == 15
    row, _ = stored["ucddb008"]
    facts = [row[name] for name in ("subject_id", "sex", "age_years", "ahi")]
    assert facts == ["ucddb008", "female", 63.0, 5.0]
    assert row["bmi"] == pytest.approx(28.4)
    assert len({row["subject_id"] for row, _ in stored.values()}) == 15


def test_stages_lie_on_the_epochs_they_were_scored_on(
    stored: dict[str, tuple[Row, Night]], truth: list[UcddbNight]
) -> None:
    for night in truth:
        _, found = stored[night.name]
        assert found.hypnogram is not None
        expected = [STAGES[int(stage)] for stage in night.stage[: found.num_epochs]]
        assert found.hypnogram.tolist() == expected, night.name


def test_apneas_touch_the_epochs_they_were_marked_on(
    stored: dict[str, tuple[Row, Night]], truth: list[UcddbNight]
) -> None:
    for night in truth:
        _, found = stored[night.name]
        seconds = event_mask(found.events or (), BREATHING, found.num_epochs * EPOCH_S)
        touched = seconds.reshape(-1, EPOCH_S).any(axis=1)
        assert touched.tolist() == night.apnea[: found.num_epochs].tolist(), night.name


def test_holes_are_gaps_and_nothing_is_joined_across_them(
    stored: dict[str, tuple[Row, Night]], truth: list[UcddbNight]
) -> None:
    for night in truth:
        _, found = stored[night.name]
        there = night.have[: found.num_epochs]
        step = float(np.abs(night.eeg[night.have]).max()) / DIGITAL_LIMIT
        # some epochs are nothing but zeros for 27 to 97 % of their seconds, none between 27 and 50
        seconds = night.eeg[: found.num_epochs].reshape(found.num_epochs, EPOCH_S, -1)
        alive = (seconds.std(axis=2) <= step).mean(axis=1) < 0.4
        assert found.usable[Modality.EEG].tolist() == (there & alive).tolist(), night.name
        absent_s = sum(stop_s - start_s for start_s, stop_s in found.gaps)
        assert absent_s == pytest.approx(EPOCH_S * int((~there).sum())), night.name


def test_signals_after_a_hole_are_where_they_were_recorded(
    stored: dict[str, tuple[Row, Night]], truth: list[UcddbNight]
) -> None:
    for night in truth[:5]:
        _, found = stored[night.name]
        after = np.flatnonzero(np.diff(night.have[: found.num_epochs].astype(int)) == 1) + 1
        lags = []
        for epoch in after[found.usable[Modality.EEG][after]]:
            segment = min(epoch // 2, len(found.signals[Modality.EEG]) - 1)
            samples = found.signals[Modality.EEG][segment].reshape(2, EPOCH_SAMPLES)
            recorded = np.diff(resample(night.eeg[epoch], EPOCH_SAMPLES))  # without its drift
            stored_epoch = np.diff(samples[epoch - 2 * segment].astype(float))
            agreement = np.correlate(stored_epoch[50:-50], recorded, "valid")
            lags.append(int(agreement.argmax()) - 50)
        assert lags, night.name
        assert set(lags) <= {0}, night.name
