"""Scorings in XML: NSRR in two dialects, Profusion."""

from pathlib import Path

import pytest

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import EPOCH_S, EventKind, ScoredEvent, Stage
from sleepmami.signals.scorings import read_scoring
from sleepmami.simulation.night import plan_night
from sleepmami.simulation.night_files import nsrr_xml
from sleepmami.simulation.subjects import simulate_subject
from tests.unit.signals.raw_edf import RawEdf, annotation_signal

UNKNOWN, WAKE, N1, N2, N3, REM = (int(stage) for stage in Stage)


def written(tmp_path: Path, content: str | bytes, num_epochs: int) -> list[int]:
    file = tmp_path / "night.xml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("latin-1"))
    stages = read_scoring(file, num_epochs).hypnogram
    assert stages is not None
    return stages.tolist()


def refusal(path: Path) -> RecordingError:
    with pytest.raises(RecordingError) as caught:
        read_scoring(path, 4)
    return caught.value


def nsrr(*events: str, head: str = '<?xml version="1.0" encoding="UTF-8"?>') -> str:
    scored = "".join(f"<ScoredEvent>{event}</ScoredEvent>" for event in events)
    return f"{head}<PSGAnnotation><EpochLength>30</EpochLength><ScoredEvents>{scored}</ScoredEvents></PSGAnnotation>"


def stage(concept: str, start: str, duration: str) -> str:
    return (
        f"<EventType>Stages|Stages</EventType><EventConcept>{concept}</EventConcept>"
        f"<Start>{start}</Start><Duration>{duration}</Duration>"
    )


def test_nsrr_runs_and_numbers(tmp_path: Path) -> None:
    start_time = "<EventType/><EventConcept>Recording Start Time</EventConcept><Start>0</Start><Duration>300.0</Duration><ClockTime>00.00.00 23.30.00</ClockTime>"
    apnea = "<EventType>Respiratory|Respiratory</EventType><EventConcept>Obstructive apnea|Obstructive Apnea</EventConcept><Start>31.5</Start><Duration>20.1</Duration>"
    content = nsrr(
        start_time,
        stage("Wake|0", "0", "60.0"),
        apnea,
        stage("Stage 1 sleep|1", "60.0", "30.0"),
        stage("Stage 2 sleep|2", "90.0", "30.0"),
        stage("Stage 3 sleep|3", "120.0", "30.0"),
        stage("Stage 4 sleep|4", "150.0", "30.0"),
        stage("REM sleep|5", "180.0", "30.0"),
        stage("Movement|6", "210.0", "30.0"),
        stage("Unscored|9", "240.0", "30.0"),
    )
    assert written(tmp_path, content, 10) == [WAKE, WAKE, N1, N2, N3, N3, REM, UNKNOWN, UNKNOWN, UNKNOWN]  # fmt: skip


def test_nsrr_in_sleep_domain_ontology_words_and_latin_1(tmp_path: Path) -> None:
    def event(concept: str, start: int) -> str:
        return f"<EventConcept>SDO:{concept}</EventConcept><Duration>30</Duration><Start>{start}</Start><Notes>\xe9</Notes>"

    content = nsrr(
        event("WakeState", 0),
        event("NonRapidEyeMovementSleep-N1", 30),
        event("NonRapidEyeMovementSleep-N2", 60),
        event("NonRapidEyeMovementSleep-N3", 90),
        event("RapidEyeMovementSleep", 120),
        event("HypopneaFinding", 120),
        head='<?xml version="1.0" encoding="ISO-8859-1"?>',
    )
    assert written(tmp_path, content, 6) == [WAKE, N1, N2, N3, REM, UNKNOWN]


def test_profusion_has_one_code_per_epoch(tmp_path: Path) -> None:
    codes = "".join(f"<SleepStage>{code}</SleepStage>" for code in (0, 1, 2, 3, 4, 5, 9))
    content = f"\n<?xml version='1.0'?><CMPStudyConfig><EpochLength>30</EpochLength><ScoredEvents><ScoredEvent><Name>Hypopnea|Hypopnea</Name><Start>1</Start><Duration>9</Duration></ScoredEvent></ScoredEvents><SleepStages>{codes}</SleepStages></CMPStudyConfig>"
    assert written(tmp_path, content, 7) == [WAKE, N1, N2, N3, N3, REM, UNKNOWN]


def test_profusion_may_score_shorter_epochs(tmp_path: Path) -> None:
    codes = "<SleepStage>2</SleepStage>" * 3 + "<SleepStage>5</SleepStage>" * 3
    content = f"<CMPStudyConfig><EpochLength>20</EpochLength><SleepStages>{codes}</SleepStages></CMPStudyConfig>"
    assert written(tmp_path, content, 4) == [N2, N2, REM, REM]


def test_xml_may_be_utf_16_and_namespaced(tmp_path: Path) -> None:
    content = nsrr(stage("REM sleep|5", "0", "30"), head='<?xml version="1.0" encoding="UTF-16"?>')
    content = content.replace("<PSGAnnotation>", '<PSGAnnotation xmlns="http://www.example.org/psg">')  # fmt: skip
    assert written(tmp_path, content.encode("utf-16"), 1) == [REM]


LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><PSGAnnotation>&c;</PSGAnnotation>'


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("<PSGAnnotation>", "no readable XML"),
        (LAUGHS, "EntitiesForbidden"),
        ('<?xml version="1.0" encoding="unicode_escape"?><PSGAnnotation/>', "encoding"),
        ("<html><body/></html>", "XML of kind 'html'"),
        ("<PSGAnnotation/>", "without a sleep stage or event"),
        ("<CMPStudyConfig/>", "without a sleep stage or event"),
        (nsrr(stage("Wake|0", "", "30")), "without a start"),
        (nsrr(stage("Wake|0", "soon", "30")), "Start 'soon'"),
        (nsrr(stage("Wake|0", "0", "nan")), "Duration 'nan'"),
    ],
)
def test_unknown_content_is_invalid_and_says_why(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / "a.xml").write_text(content)
    error = refusal(tmp_path / "a.xml")
    assert error.code == RecordingCode.ANNOTATION_INVALID
    assert found in error.found
    assert "PSGAnnotation" in error.expected


def scored_event(
    concept: str, start: str, duration: str, kind: str = "Respiratory|Respiratory"
) -> str:
    return (
        f"<EventType>{kind}</EventType><EventConcept>{concept}</EventConcept>"
        f"<Start>{start}</Start><Duration>{duration}</Duration><SignalLocation>x</SignalLocation>"
    )


def test_nsrr_events_are_read_with_the_stages() -> None:
    content = nsrr(
        stage("Wake|0", "0", "90"),
        scored_event("Obstructive apnea|Obstructive Apnea", "31.5", "20.1"),
        scored_event("SpO2 desaturation|SpO2 desaturation", "40", "25"),
        scored_event("SpO2 artifact|SpO2 artifact", "41", "25"),
        scored_event("Arousal|Arousal ()", "52", "4", "Arousals|Arousals"),
        scored_event("RERA|RERA", "60", "12"),
        scored_event("Central apnea|Central Apnea", "soon", "12"),
        scored_event("Hypopnea|Hypopnea", "85", "20"),
    )
    scoring = read_scoring(content.encode(), 3)
    assert scoring.hypnogram is not None
    assert scoring.events == (
        ScoredEvent(start_s=31.5, duration_s=20.1, kind=EventKind.OBSTRUCTIVE_APNEA),
        ScoredEvent(start_s=40.0, duration_s=25.0, kind=EventKind.DESATURATION),
        ScoredEvent(start_s=52.0, duration_s=4.0, kind=EventKind.AROUSAL),
        ScoredEvent(start_s=60.0, duration_s=12.0, kind=EventKind.RERA),
        ScoredEvent(start_s=85.0, duration_s=5.0, kind=EventKind.HYPOPNEA),  # the night ends at 90
    )


def test_ontology_concepts_name_events() -> None:
    concepts = ["HypopneaFinding", "ObstructiveApneaFinding", "CentralApneaFinding", "SleepArousalFinding", "HemoglobinOxygenDesaturationFinding", "ArtifactFinding"]  # fmt: skip
    content = nsrr(
        *(
            f"<EventConcept>SDO:{concept}</EventConcept><Duration>10</Duration><Start>{i}</Start>"
            for i, concept in enumerate(concepts)
        )
    )
    scoring = read_scoring(content.encode(), 2)
    assert scoring.hypnogram is None
    assert scoring.events is not None
    assert [event.kind.value for event in scoring.events] == ["hypopnea", "obstructive_apnea", "central_apnea", "arousal", "desaturation"]  # fmt: skip


def test_profusion_events_have_names() -> None:
    event = "<ScoredEvent><Name>Mixed Apnea</Name><Start>3</Start><Duration>9.5</Duration><Input>Flow</Input></ScoredEvent>"
    content = f"<CMPStudyConfig><ScoredEvents>{event}</ScoredEvents><SleepStages><SleepStage>2</SleepStage></SleepStages></CMPStudyConfig>"
    scoring = read_scoring(content.encode(), 1)
    assert scoring.events == (ScoredEvent(start_s=3.0, duration_s=9.5, kind=EventKind.MIXED_APNEA),)


def test_missing_file_and_folder_are_unreadable(tmp_path: Path) -> None:
    assert refusal(tmp_path).found == "a folder"
    assert refusal(tmp_path / "none.xml").code == RecordingCode.UNREADABLE


def test_bytes_are_read_as_the_file_is(tmp_path: Path) -> None:
    tals = annotation_signal(b"+0\x14\x14\0+30\x1530\x14Sleep stage R\x14\0")
    edf = RawEdf([tals], reserved="EDF+C", record_duration="0").to_bytes()
    xml = nsrr(stage("Stage 2 sleep|2", "0", "60")).encode()
    for content, expected in ((edf, [UNKNOWN, REM]), (xml, [N2, N2])):
        assert written(tmp_path, content, 2) == expected
        assert read_scoring(content, 2).hypnogram.tolist() == expected


@pytest.mark.parametrize("content", [b"<html/>", b"0       cut short", b"", b"?!"])
def test_an_error_in_bytes_calls_them_by_the_name_given(content: bytes) -> None:
    with pytest.raises(RecordingError) as caught:
        read_scoring(content, 2, name="s3://b/night.xml")
    assert caught.value.file == "s3://b/night.xml"


def test_a_simulated_night_comes_back_from_its_file() -> None:
    plan = plan_night(simulate_subject(3, seed=5), 4.0, seed=5)
    num_epochs = len(plan.hypnogram)
    scoring = read_scoring(nsrr_xml(plan.hypnogram, plan.events), num_epochs)
    assert scoring.hypnogram is not None
    assert scoring.events is not None
    assert scoring.hypnogram.tolist() == plan.hypnogram.tolist()
    end_s = num_epochs * EPOCH_S  # written to a tenth of a second, and cut at the end
    written = sorted((round(e.start_s, 1), min(round(e.duration_s, 1), end_s - round(e.start_s, 1)), e.kind.value) for e in plan.events)  # fmt: skip
    found = [(e.start_s, e.duration_s, e.kind.value) for e in scoring.events]
    assert len(found) == len(written) > 20
    for one, other in zip(found, written, strict=True):
        assert one[:2] == pytest.approx(other[:2], abs=1e-6)
        assert one[2] == other[2]
