import time
from collections.abc import Sequence
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import Stage
from sleepmami.signals.annotations import (
    find_annotation,
    hypnogram_from_annotations,
    pair_annotations,
    read_hypnogram,
)
from sleepmami.signals.edf import Annotation
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal

UNKNOWN, WAKE, N1, N2, N3, REM = (int(stage) for stage in Stage)


def hypnogram(*events: tuple[float, float, str], num_epochs: int) -> list[int] | None:
    stages = hypnogram_from_annotations([Annotation(*event) for event in events], num_epochs)
    return None if stages is None else stages.tolist()


def written(tmp_path: Path, content: str | bytes, num_epochs: int) -> list[int]:
    file = tmp_path / "night.xml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("latin-1"))
    stages = read_hypnogram(file, num_epochs)
    assert stages.dtype == np.int8
    return stages.tolist()


def refusal(path: Path) -> RecordingError:
    with pytest.raises(RecordingError) as caught:
        read_hypnogram(path, 4)
    return caught.value


# ------------------------------------------------------------------------------------ EDF+ texts


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("Sleep stage W", WAKE),
        ("Sleep stage 1", N1),
        ("Sleep stage 2", N2),
        ("Sleep stage 3", N3),
        ("Sleep stage 4", N3),
        ("Sleep stage R", REM),
        ("Sleep stage N1", N1),
        ("Sleep stage N3", N3),
        ("sleep stage n2@@EEG F4-A1", N2),
        ("Sleep stage ?", UNKNOWN),
        ("Sleep stage M", UNKNOWN),
        ("Movement time", UNKNOWN),
        ("Stage REM", REM),
        ("NREM 2", N2),
        ("N3", N3),
        ("Wake", WAKE),
    ],
)
def test_stage_names_of_scorers(text: str, stage: int) -> None:
    assert hypnogram((0, 30, text), num_epochs=1) == [stage]


@pytest.mark.parametrize("text", ["QRS", "Lights off@@EEG F4-A1", "Stage shift", "2", "Arousal"])
def test_other_events_are_no_stages(text: str) -> None:
    assert hypnogram((0, 30, text), num_epochs=1) is None


def test_a_momentary_r_is_a_heart_beat() -> None:
    assert hypnogram((3.2, 0, "R"), num_epochs=1) is None


def test_one_run_fills_many_epochs_and_the_night_cuts_it() -> None:
    events = [(0, 90, "Sleep stage W"), (90, 1e6, "Sleep stage 2")]
    assert hypnogram(*events, num_epochs=5) == [WAKE, WAKE, WAKE, N2, N2]


def test_a_stage_without_duration_lasts_one_epoch() -> None:
    events = [(0, 0, "Sleep stage 1"), (60, 0, "Sleep stage R")]
    assert hypnogram(*events, num_epochs=4) == [N1, UNKNOWN, REM, UNKNOWN]


def test_an_epoch_takes_the_stage_that_covers_most_of_it() -> None:
    # 5-s steps: epoch 0 is 10 s W, 20 s N2; epoch 1 is 15 s REM then 15 s N2
    events = [(0, 10, "Sleep stage W"), (10, 20, "Sleep stage 2")]
    events += [(30 + 5 * i, 5, "Sleep stage R") for i in range(3)] + [(45, 15, "Sleep stage 2")]
    assert hypnogram(*events, num_epochs=2) == [N2, N2]  # the tie goes to the lighter stage


def test_an_epoch_scored_for_less_than_half_is_unknown() -> None:
    assert hypnogram((-20, 64, "Sleep stage 2"), num_epochs=2) == [N2, UNKNOWN]  # 30 s and 14 s


def test_twenty_second_scoring_lands_on_thirty_second_epochs() -> None:
    names = ["W", "W", "1", "2", "2", "2"]
    events = [(20 * i, 20, f"Sleep stage {name}") for i, name in enumerate(names)]
    assert hypnogram(*events, num_epochs=4) == [WAKE, N1, N2, N2]  # epoch 1: 10 s W, 20 s N1


@given(st.lists(st.sampled_from(["W", "1", "2", "3", "R", "?"]), min_size=1, max_size=40))
def test_merging_equal_epochs_into_runs_changes_nothing(names: list[str]) -> None:
    each = [(30.0 * i, 30.0, f"Sleep stage {name}") for i, name in enumerate(names)]
    runs: list[tuple[float, float, str]] = []
    for start, duration, text in each:
        if runs and runs[-1][2] == text:
            runs[-1] = (runs[-1][0], runs[-1][1] + duration, text)
        else:
            runs.append((start, duration, text))
    assert hypnogram(*runs, num_epochs=45) == hypnogram(*each, num_epochs=45)


def test_a_hypnogram_edf_is_read_by_content_not_by_name(tmp_path: Path) -> None:
    tals = annotation_signal(b"+0\x14\x14\0+0\x1560\x14Sleep stage 4\x14\0")
    raw = RawEdf([tals], reserved="EDF+C", record_duration="0").to_bytes()
    assert written(tmp_path, raw, 3) == [N3, N3, UNKNOWN]


def test_an_edf_without_stages_is_invalid(tmp_path: Path) -> None:
    tals = annotation_signal(b"+0\x14\x14\0+1\x14QRS\x14\0")
    (tmp_path / "a.edf").write_bytes(RawEdf([tals], reserved="EDF+C", record_duration="0").to_bytes())  # fmt: skip
    error = refusal(tmp_path / "a.edf")
    assert (error.code, error.found) == ("annotation_invalid", "1 annotations, none of them a sleep stage")  # fmt: skip


# ------------------------------------------------------------------------------------------- XML


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
        ("", "no readable XML"),
        ("sleep,stage\n0,W\n", "no readable XML"),
        ("<PSGAnnotation>", "no readable XML"),
        (LAUGHS, "EntitiesForbidden"),
        ('<?xml version="1.0" encoding="unicode_escape"?><PSGAnnotation/>', "encoding"),
        ("<html><body/></html>", "XML of kind 'html'"),
        ("<PSGAnnotation/>", "without a sleep stage"),
        ("<CMPStudyConfig/>", "without a sleep stage"),
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


def test_missing_file_and_folder_are_unreadable(tmp_path: Path) -> None:
    assert refusal(tmp_path).found == "a folder"
    assert refusal(tmp_path / "none.xml").code == RecordingCode.UNREADABLE


def test_bytes_are_read_as_the_file_is(tmp_path: Path) -> None:
    tals = annotation_signal(b"+0\x14\x14\0+30\x1530\x14Sleep stage R\x14\0")
    edf = RawEdf([tals], reserved="EDF+C", record_duration="0").to_bytes()
    xml = nsrr(stage("Stage 2 sleep|2", "0", "60")).encode()
    for content, expected in ((edf, [UNKNOWN, REM]), (xml, [N2, N2])):
        assert written(tmp_path, content, 2) == expected
        assert read_hypnogram(content, 2).tolist() == expected


@pytest.mark.parametrize("content", [b"<html/>", b"0       cut short", b""])
def test_an_error_in_bytes_calls_them_by_the_name_given(content: bytes) -> None:
    with pytest.raises(RecordingError) as caught:
        read_hypnogram(content, 2, name="s3://b/night.xml")
    assert caught.value.file == "s3://b/night.xml"


# ----------------------------------------------------------------------------------- find a file


@pytest.mark.parametrize(
    ("recording", "annotation"),
    [
        ("d/night.edf", "d/night.xml"),
        ("d/shhs1-200001.edf", "d/shhs1-200001-nsrr.xml"),
        ("d/shhs1-200001.edf", "d/shhs1-200001-profusion.xml"),
        ("d/night.edf", "d/night_hypnogram.edf"),
        ("d/NIGHT.EDF", "d/Night-Hypnogram.EDF"),
        ("d/SC4001E0-PSG.edf", "d/SC4001EC-Hypnogram.edf"),
        ("d/ST7011J0-PSG.edf", "d/ST7011JP-Hypnogram.edf"),
        ("d/SN001.edf", "d/SN001_sleepscoring.edf"),
        ("d/01-01-0001 PSG.edf", "d/01-01-0001 Base.edf"),
        ("s3://b/edfs/shhs1-200001.edf", "s3://b/annotations/shhs1-200001-nsrr.xml"),
    ],
)
def test_naming_schemes_of_public_cohorts(recording: str, annotation: str) -> None:
    others = [recording, "d/night2.xml", "d/._night.xml", "d/SC4002EC-Hypnogram.edf", "d/SN0011_sleepscoring.edf"]  # fmt: skip
    assert find_annotation(recording, [*others, annotation]) == annotation


def test_nsrr_is_preferred_to_profusion_and_plain_xml() -> None:
    candidates = ["d/a.xml", "d/a-profusion.xml", "d/a-nsrr.xml"]
    assert find_annotation("d/a.edf", candidates) == "d/a-nsrr.xml"


def test_the_own_folder_comes_before_a_better_name_elsewhere() -> None:
    assert find_annotation("d/a.edf", ["e/a-nsrr.xml", "d/a.xml"]) == "d/a.xml"


def test_another_recordings_annotation_is_not_taken() -> None:
    files = ["sub-1/night.edf", "sub-1/night.xml", "sub-2/night.edf"]
    assert find_annotation("sub-1/night.edf", files) == "sub-1/night.xml"
    assert find_annotation("sub-2/night.edf", files) is None


def test_two_equal_matches_elsewhere_are_no_match() -> None:
    assert find_annotation("edf/a.edf", ["x/a.xml", "y/a.xml"]) is None


def test_one_file_elsewhere_is_not_given_to_nights_of_two_folders() -> None:
    nights = ["v1/night.edf", "v2/night.edf"]
    assert pair_annotations(nights, ["scored/night.xml"]) == dict.fromkeys(nights)


def test_two_formats_of_one_night_share_its_annotation() -> None:
    nights = ["edf/night.edf", "edf/night.bdf"]
    paired = pair_annotations(nights, ["scored/night.xml"])
    assert paired == dict.fromkeys(nights, "scored/night.xml")


# Every pair is looked at, and the rules are written out one after another.
SUFFIXES = ["-nsrr.xml", "-profusion.xml", ".xml", "-hypnogram.edf", "-sleepscoring.edf", "-base.edf", "-annotations.edf", "-hypnogram.bdf"]  # fmt: skip


def plain(path: str) -> tuple[str, str]:
    folder, _, file = path.rpartition("/")
    return folder, file.lower().replace("_", "-").replace(" ", "-")


def names_of(recording: str) -> set[str]:
    """The stem, and for Sleep-EDF all but the scorer's letter."""
    stem = plain(recording)[1].rpartition(".")[0]
    sleep_edf = stem[:2] in ("sc", "st") and stem[2:6].isdecimal() and stem[6:7].isalpha()
    more = {stem[:7] + "?"} if sleep_edf and stem[8:] == "-psg" else set()
    return {stem.removesuffix("-psg"), *more}


def rank_of(recording: str, annotation: str) -> int | None:
    file = plain(annotation)[1]
    for rank, suffix in enumerate(SUFFIXES):
        if any(file == name + suffix for name in names_of(recording)):
            return rank
    fits = file[:7] + "?" in names_of(recording) and file[8:] == "-hypnogram.edf"
    return len(SUFFIXES) if fits else None


def slow_pairs(recordings: Sequence[str], candidates: Sequence[str]) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for recording in recordings:
        folder, _, file = recording.rpartition("/")
        namesakes = [r for r in recordings if names_of(r) & names_of(recording)]
        in_one_folder = len({plain(r)[0] for r in namesakes}) == 1
        ranked = []
        for candidate in set(candidates):
            theirs = plain(candidate)[0]
            alone = f"{theirs}/{file}" not in [*recordings, *candidates]
            rank = rank_of(recording, candidate)
            if rank is not None and (theirs == folder or (alone and in_one_folder)):
                ranked.append((theirs != folder, rank, candidate))
        best = [r for r in ranked if r[:2] == min(ranked)[:2]]
        pairs[recording] = best[0][2] if len(best) == 1 else None
    return pairs


folders = st.sampled_from(["a", "b", "b/c"])
stems = st.sampled_from(["n", "N", "n_psg", "n-PSG", "m", "sc4001e0-psg", "SC4001E0_PSG", "st4001e0-psg"])  # fmt: skip
scorers = st.sampled_from(["n", "N", "m", "n-hypnogram", "SC4001EC", "sc4001eh", "sc4001e0", "sc4001e"])  # fmt: skip
endings = st.sampled_from([*SUFFIXES, "_Hypnogram.edf", " base.EDF", ".edf", ".txt"])
recording_paths = st.builds("{}/{}.{}".format, folders, stems, st.sampled_from(["edf", "bdf"]))
candidate_paths = st.builds("{}/{}{}".format, folders, scorers, endings)


@given(st.lists(recording_paths, unique=True, max_size=4), st.lists(candidate_paths, max_size=6))
def test_pairs_are_those_of_the_rules_one_after_another(
    recordings: list[str], candidates: list[str]
) -> None:
    for files in (candidates, [*candidates, *recordings]):
        assert pair_annotations(recordings, files) == slow_pairs(recordings, files)
    for recording in recordings:
        assert find_annotation(recording, candidates) == slow_pairs([recording], candidates)[recording]  # fmt: skip


@pytest.mark.parametrize("path", ["edf/night{:05}.edf", "{:05}/night.edf"])
def test_pairing_a_cohort_takes_no_time_worth_naming(path: str) -> None:
    """Every recording against every file would be 72 million looks."""
    nights = [path.format(number) for number in range(6000)]
    scored = [night.removesuffix(".edf") + suffix for night in nights for suffix in (".xml", "-nsrr.xml")]  # fmt: skip
    begin = time.process_time()
    pairs = pair_annotations(nights, scored)
    assert time.process_time() - begin < 2
    assert pairs == {night: night.removesuffix(".edf") + "-nsrr.xml" for night in nights}


def test_a_hypnogram_is_not_its_own_annotation() -> None:
    name = "d/SC4001EC-Hypnogram.edf"
    assert find_annotation(name, [name]) is None


# ----------------------------------------------------------------------------- real annotations


def test_sleep_edf_hypnograms_equal_a_reading_by_hand(shared_data: Path) -> None:
    codes = {"W": WAKE, "1": N1, "2": N2, "3": N3, "4": N3, "R": REM}
    files = sorted((shared_data / "annotations" / "sleep-edf").glob("*.edf"))
    assert len(files) == 20
    for file in files[:8]:
        expected = np.full(2880, UNKNOWN)
        for a in edfio.read_edf(file).annotations:
            first, last = int(a.onset // 30), int((a.onset + (a.duration or 0)) // 30)
            expected[first:last] = codes.get(a.text[-1], UNKNOWN)
        np.testing.assert_array_equal(read_hypnogram(file, 2880), expected)


def test_hmc_scoring_counts(shared_data: Path) -> None:
    stages = read_hypnogram(shared_data / "psg" / "test_edfann.edf", 854)
    counts = {code: int((stages == code).sum()) for code in (WAKE, N1, N2, N3, REM)}
    assert counts == {WAKE: 151, N1: 109, N2: 430, N3: 23, REM: 141}


def test_bdf_and_edf_of_one_hypnogram_agree(shared_data: Path) -> None:
    edf = read_hypnogram(shared_data / "psg" / "SC4001EC-Hypnogram.edf", 2880)
    bdf = read_hypnogram(shared_data / "psg" / "SC4001EC-Hypnogram.bdf", 2880)
    np.testing.assert_array_equal(edf, bdf)


# ----------------------------------------------------------------------------- the same beginning


@pytest.mark.parametrize(
    ("clock_s", "taken"),
    [(81_005, True), (81_006, True), (None, True), (50_405, False), (0, False)],
)
def test_a_scoring_of_another_time_of_day_is_refused(clock_s: int | None, taken: bool) -> None:
    text = b"+0\x14\x14\x00+0\x1530\x14Sleep stage W\x14\x00".ljust(64, b"\x00")
    signal = RawSignal([text], label="EDF Annotations", samples_per_record="32")
    scoring = RawEdf([signal], reserved="EDF+C", record_duration="0", clock=b"22.30.05").to_bytes()
    if taken:
        assert read_hypnogram(scoring, 2, clock_s=clock_s).tolist() == [0, -1]
    else:
        with pytest.raises(RecordingError, match=r"a scoring that starts \d+ s (after|before)"):
            read_hypnogram(scoring, 2, clock_s=clock_s)
