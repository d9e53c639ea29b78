"""Scorings in text: every dialect in a few hand-written lines, and what must be refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepmami.errors import RecordingError
from sleepmami.psg import EventKind, ScoredEvent, Stage
from sleepmami.signals import scoring_text, scorings
from sleepmami.signals.scorings import Scoring, read_scoring

UNKNOWN, WAKE, N1, N2, N3, REM = (int(stage) for stage in Stage)
CLOCK_S = 23 * 3600 + 58 * 60  # recordings start at 23:58:00


def read(
    text: str, num_epochs: int = 5, clock_s: int | None = None, name: str = "night.txt"
) -> Scoring:
    return read_scoring(text.encode(), num_epochs, name=name, clock_s=clock_s)


def stages(
    text: str, num_epochs: int = 5, clock_s: int | None = None, name: str = "night.txt"
) -> list[int]:
    hypnogram = read(text, num_epochs, clock_s, name).hypnogram
    assert hypnogram is not None
    return hypnogram.tolist()


def events(
    text: str, num_epochs: int = 5, clock_s: int | None = None
) -> list[tuple[float, float, str]] | None:
    found = read(text, num_epochs, clock_s).events
    return None if found is None else [(e.start_s, e.duration_s, e.kind.value) for e in found]


def refusal(text: str | bytes, num_epochs: int = 5, clock_s: int | None = None) -> RecordingError:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(RecordingError) as caught:
        read_scoring(raw, num_epochs, name="night.txt", clock_s=clock_s)
    assert caught.value.code == "annotation_invalid"
    return caught.value


# ------------------------------------------------------------------------------ one per line


@pytest.mark.parametrize(
    "text",
    [
        "W\nN1\nN2\nN3\nR\n",
        "Wake\r\nNREM1\r\nNREM2\r\nNREM4\r\nREM",
        "\ufeffstage\nW\nS1\nS2\nS4\nREM\n",
        '"W"\n"N1"\n"N2"\n"N3"\n"REM"\n',
        "0\n1\n2\n3\n5\n",  # a 5 without a 4
        "# 0=W 1=REM 2=N1 3=N2 4=N3\n0\n2\n3\n4\n1\n",
        "hypno_int\n0\n1\n2\n3\n4\n",
    ],
)
def test_one_stage_per_line(text: str) -> None:
    assert stages(text) == [WAKE, N1, N2, N3, REM]


def test_unscored_epochs_of_a_list_are_unknown() -> None:
    assert stages("W\n?\nN2\nArtifact\nL\n") == [WAKE, UNKNOWN, N2, UNKNOWN, UNKNOWN]


@pytest.mark.parametrize("codes", ["0 1 2 3 4", "0 1 2 3 4 5", "0 1 2 3"])
def test_bare_numbers_that_could_mean_several_things_are_refused(codes: str) -> None:
    error = refusal(codes.replace(" ", "\n"))
    assert "bare numbers" in error.found
    assert "stage names" in error.expected


def test_st_vincents_numbers_are_known_by_the_name_of_the_file() -> None:
    numbers = "0\n1\n2\n3\n4\n5\n6\n7\n"
    expected = [WAKE, REM, N1, N2, N3, N3, UNKNOWN, UNKNOWN]
    assert stages(numbers, 8, name="ucddb002_stage.txt") == expected


def test_dreams_counts_down_in_five_second_steps() -> None:
    codes = [5] * 6 + [3] * 6 + [2] * 4 + [1] * 2 + [4] * 6 + [0] * 6 + [-1] * 6
    text = "[HypnogramAASM]\n" + "\n".join(map(str, codes))
    assert stages(text, 6) == [WAKE, N1, N2, REM, N3, UNKNOWN]


def test_a_list_in_twenty_second_steps_is_known_by_its_length() -> None:
    # 30 epochs are 45 steps of 20 s: 15 W, 30 N2
    text = "W\n" * 15 + "N2\n" * 30
    assert stages(text, 30) == [WAKE] * 10 + [N2] * 20


def test_a_list_that_fits_the_recording_in_no_step_is_refused() -> None:
    assert "a list of 100 stages without times" in refusal("W\n" * 100, 40).found


# -------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "text",
    [
        "epoch,stage\n1,W\n2,N1\n3,N2\n4,N3\n5,R\n",
        "epoch;Schlafstadium\n0;Wach\n1;N1\n2;N2\n3;N3\n4;REM\n",
        "epoch,stage\n1,W\n2,N1\n5,R\n3,N2\n4,N3\n",  # in any order
        "onset\tduration\tstage\n0\t30\tW\n30\t30\tN1\n60\t30\tN2\n90\t30\tS4\n120\t30\tREM\n",
        "start,end,label\n0,30,W\n30,60,N1\n60,90,N2\n90,120,N3\n120,150,REM\n",
        "Start (s);Dauer;Stadium\n0,0;30,0;W\n30,0;30,0;N1\n60,0;30,0;N2\n90,0;30,0;N3\n120,0;30,0;R\n",
        "time,stage\n23:58:00,W\n23:58:30,N1\n23:59:00,N2\n23:59:30,N3\n00:00:00,R\n",
        "datetime,stage\n2001-01-01 23:58:00,W\n2001-01-01 23:58:30,N1\n2001-01-01 23:59:00,N2\n2001-01-01 23:59:30,N3\n2001-01-02 00:00:00,R\n",
        "time,stage\n11:58:00 PM,W\n11:58:30 PM,N1\n11:59:00 PM,N2\n11:59:30 PM,N3\n12:00:00 AM,R\n",
        "onset,stage\n0:00:00,W\n0:00:30,N1\n0:01:00,N2\n0:01:30,N3\n0:02:00,R\n",
        "onset\tduration\ttrial_type\n0\t30\tSleep stage W\n30\t30\tSleep stage 1\n60\t30\tSleep stage 2\n90\t30\tSleep stage 3\n120\t30\tSleep stage R\n",
        "onset\tduration\tstage_hum\tstage_ai\n0\t30\t0\t4\n30\t30\t1\t4\n60\t30\t2\t4\n90\t30\t3\t4\n120\t30\t4\t8\n",
        "stage,confidence\nW,0.9\nN1,0.4\nN2,0.8\nN3,0.9\nR,0.7\n",
        "sleep_stage,sleep_stage_text\n0,Wake\n2,Stage 1\n3,Stage 2\n4,Stage 3\n1,REM\n",
    ],
)  # fmt: skip
def test_spellings_of_a_table_of_five_epochs(text: str) -> None:
    assert stages(text, clock_s=CLOCK_S) == [WAKE, N1, N2, N3, REM]


def test_hmc_tables() -> None:
    text = (
        "Date, Time, Recording onset, Duration, Annotation, Linked channel\n"
        "2001-01-01, 10:00:00, 0, 0, Lights off, EEG\n"
        "2001-01-01, 10:00:00, 0, 30, Sleep stage W,\n"
        "2001-01-01, 10:00:30, 30, 30, Sleep stage N1,\n"
        "2001-01-01, 10:01:00, 60, 30, Sleep stage N2,\n"
    )
    assert stages(text) == [WAKE, N1, N2, UNKNOWN, UNKNOWN]


def test_epoch_numbers_serve_when_the_recording_has_no_clock() -> None:
    text = "epoch,time,stage\n1,22:00:00,W\n2,22:00:30,N2\n"
    assert stages(text) == [WAKE, N2, UNKNOWN, UNKNOWN, UNKNOWN]
    assert stages(text, clock_s=22 * 3600 - 30) == [UNKNOWN, WAKE, N2, UNKNOWN, UNKNOWN]


def test_a_gap_in_a_table_stays_unscored() -> None:
    text = "start,stage\n0,W\n30,N1\n60,N1\n90,N1\n180,N2\n"
    assert stages(text, 7) == [WAKE, N1, N1, N1, UNKNOWN, UNKNOWN, N2]


def test_a_table_of_changes_fills_the_time_between() -> None:
    text = "start,stage\n0,W\n30,N1\n120,N2\n"
    assert stages(text, 6) == [WAKE, N1, N1, N1, N2, UNKNOWN]


def test_two_changes_ten_minutes_apart_are_no_ten_minute_steps() -> None:
    text = "start,stage\n0,W\n600,N2\n"
    assert stages(text, 22) == [WAKE] * 20 + [N2, UNKNOWN]


def test_rows_of_five_seconds() -> None:
    rows = [f"{5 * i},{'W' if i < 8 else 'N2'}" for i in range(12)]  # 40 s of W, 20 s of N2
    assert stages("start,stage\n" + "\n".join(rows), 2) == [WAKE, N2]


def test_cap_tables_have_stages_among_the_events() -> None:
    text = (
        "CAP export\nPatient:\tN. N.\n\n"
        "Sleep Stage\tPosition\tTime [hh:mm:ss]\tEvent\tDuration[s]\tLocation\n"
        "W\tSupine\t23:58:00\tSLEEP-S0\t30\tROC\n"
        "S2\tSupine\t23:58:30\tSLEEP-S2\t30\tROC\n"
        "S2\tSupine\t23:58:40\tMCAP-A1\t6\tFp2\n"
        "S4\tSupine\t23:59:00\tSLEEP-S4\t30\tROC\n"
        "S4\tSupine\t23:59:10\tAPNEA-OBSTRUCTIVE\t12\tFlow\n"
        "R\tSupine\t00:00:00\tSLEEP-REM\t30\tROC\n"
    )
    assert stages(text, clock_s=CLOCK_S) == [WAKE, N2, N3, UNKNOWN, REM]
    assert events(text, clock_s=CLOCK_S) == [(70.0, 12.0, "obstructive_apnea")]


def test_the_stage_beside_an_event_is_no_hypnogram() -> None:
    text = (
        "start,duration,event,stage\n12,20,Hypopnea,N2\n55.5,15,Central apnea,N2\n60,9,Arousal,R\n"
    )
    assert read(text).hypnogram is None
    assert events(text) == [(12.0, 20.0, "hypopnea"), (55.5, 15.0, "central_apnea"), (60.0, 9.0, "arousal")]  # fmt: skip


def test_events_listed_per_epoch_are_taken_once() -> None:
    text = (
        "record_id,epoch_id,start_sec,end_sec,sleep_stage,event_types,event_start_sec,event_duration_sec\n"
        "ucddb002,0,0,30,0.0,,,\n"
        "ucddb002,1,30,60,2.0,HYP-O; APNEA-C,35; 55,12; 20\n"
        "ucddb002,2,60,90,1.0,APNEA-C,55,20\n"
    )
    assert stages(text, 3) == [WAKE, N1, REM]
    assert events(text, 3) == [(35.0, 12.0, "hypopnea"), (55.0, 20.0, "central_apnea")]


def test_seconds_of_one_event_are_one_event() -> None:
    rows = [f"{i},{'N2'},{'Hypopnea' if 3 <= i < 15 or i == 20 else 'None'}" for i in range(60)]
    text = "start,stage,event\n" + "\n".join(rows)
    assert stages(text, 2) == [N2, N2]
    assert events(text, 2) == [(3.0, 12.0, "hypopnea"), (20.0, 1.0, "hypopnea")]


# ----------------------------------------------------------------------------- other dialects


@pytest.mark.parametrize(
    "text",
    [
        "# N2 | stage\n# hypopnea | event\nW\t.\t.\t0\t30\t.\nN2\t.\t.\t30\t90\t.\nhypopnea\t.\tflow\t40.5\t52\t.\n",
        "class\tinstance\tchannel\tstart\tstop\tmeta\nW\t.\t.\t23:58:00\t23:58:30\t.\nN2\t.\t.\t23:58:30\t23:59:30\t.\nhypopnea\t.\tflow\t23:58:40.5\t23:58:52\t.\n",
        "W\t0\t30\nN2\t30\t90\nhypopnea\t40.5\t52\n",
        "W\t.\t0\t+30\nN2\t.\t30\t+60\nhypopnea\t.\t40.5\t+11.5\n",
        "W\t.\t.\t0+00:00:00\t...\t.\nN2\t.\t.\t0+00:00:30\t0+00:01:30\t.\nhypopnea\t.\t.\t0+00:00:40.5\t+11.5\t.\n",
    ],
)  # fmt: skip
def test_luna_annotations(text: str) -> None:
    assert stages(text, clock_s=CLOCK_S) == [WAKE, N2, N2, UNKNOWN, UNKNOWN]
    assert events(text, clock_s=CLOCK_S) == [(40.5, 11.5, "hypopnea")]


def test_wfdb_listings_of_the_slpdb() -> None:
    text = (
        "Elapsed time  Sample #  Type  Sub Chan  Num\tAux\n"
        '    0:00.004        1     "    0    0    0\tW\n'
        '    0:30.000     7500     "    0    0    0\t1 HA\n'
        '    1:00.000    15000     "    0    0    0\t4 L LA X\n'
        '    1:30.000    22500     "    0    0    0\tR CAA\n'
        '    2:00.000    30000     "    0    0    0\tMT\n'
    )
    assert stages(text) == [WAKE, N1, N3, REM, UNKNOWN]
    assert events(text) == [
        (30.0, 30.0, "arousal"),
        (30.0, 30.0, "hypopnea"),
        (60.0, 30.0, "arousal"),
        (60.0, 30.0, "arousal"),
        (60.0, 30.0, "obstructive_apnea"),
        (90.0, 30.0, "arousal"),
        (90.0, 30.0, "central_apnea"),
    ]


def test_wfdb_listings_may_give_times_of_day() -> None:
    text = '[23:58:30.000 01/01/2001]  7500     "    0    0    0\t2\n[00:00:00.000 02/01/2001]  9500     "    0    0    0\tR\n'
    assert stages(text, clock_s=CLOCK_S) == [UNKNOWN, N2, UNKNOWN, UNKNOWN, REM]


def test_respiratory_events_of_st_vincents() -> None:
    text = (
        "                              Desaturation        Arousal\n"
        "Time      Type      PB/CS Duration  Low  %Drop  Snore\n"
        "23:58:10  HYP-C       -      15    90.3   4.2    +\n"
        "00:00:05  APNEA-O     -      22    88.1   6.2    -\n"
    )
    found = read(text, clock_s=CLOCK_S)
    assert found.hypnogram is None
    assert events(text, clock_s=CLOCK_S) == [(10.0, 15.0, "hypopnea"), (125.0, 22.0, "obstructive_apnea")]  # fmt: skip


def test_domino_profiles_and_event_lists() -> None:
    profile = "Signal ID: SchlafProfil\\profil\nStart Time: 01.01.2001 23:58:00\nUnit: \nRate: 30 s\n\n23:58:00,000; Wach\n23:58:30,000; N2\n23:59:00,000; A\n23:59:30,000; Rem\n"
    assert stages(profile, clock_s=CLOCK_S) == [WAKE, N2, UNKNOWN, REM, UNKNOWN]
    listed = "Signal ID: FlowD\\flow\nEvents list: Apnoe,Hypopnoe\n\n23:58:10,500-23:58:25,500; 15;Obstruktive Apnoe; N2\n23:59:55,000-00:00:05,000; 10;Hypopnoe; N2\n"
    assert events(listed, clock_s=CLOCK_S) == [(10.5, 15.0, "obstructive_apnea"), (115.0, 10.0, "hypopnea")]  # fmt: skip


# ------------------------------------------------------------------------------------ time


def test_a_scoring_may_begin_before_the_recording_and_goes_past_midnight() -> None:
    text = "time,stage\n23:57:30,W\n23:58:00,N1\n23:58:30,N1\n00:00:00,R\n"
    assert stages(text, clock_s=CLOCK_S) == [N1, N1, UNKNOWN, UNKNOWN, REM]


def test_times_of_day_need_the_recordings() -> None:
    error = refusal("time,stage\n23:58:00,W\n23:58:30,N1\n")
    assert error.found == "times of day only, and the recording does not say when it starts"


def test_times_of_day_outside_the_recording_are_refused() -> None:
    text = "time,stage\n03:58:00,W\n03:58:30,N1\n"
    assert "outside the recording" in refusal(text, clock_s=CLOCK_S).found


@settings(max_examples=30)
@given(st.integers(0, 300))
def test_an_event_at_a_second_of_the_scoring_starts_at_that_second(second: int) -> None:
    clock = (CLOCK_S + second) % 86_400
    text = (
        f"time,duration,event\n{clock // 3600:02}:{clock // 60 % 60:02}:{clock % 60:02},7,Apnea\n"
    )
    expected = ScoredEvent(start_s=float(second), duration_s=7.0, kind=EventKind.APNEA)
    assert read(text, 20, CLOCK_S).events == (expected,)


# -------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "an empty file"),
        ("\n \n", "an empty file"),
        ("The patient slept well.\nAnd woke.\n", "no known form"),
        ("W\nN1\nhello there\n", "no known form"),
        ("age,sex\n40,F\n", "no known form"),
        (b"W\0N1\0", "a binary file"),
        ("start,stage\nsoon,W\n", "a row that starts at 'soon'"),
        ("epoch,stage\n37,W\n38,N1\n", "begin with 37"),
        ("record_id,stage\na,W\nb,N1\n", "2 recordings"),
        ("stage,score\nx,1\ny,2\n", "without a sleep stage or event"),
        ("duration,stage\n30,W\n20,N1\n", "epochs of several lengths"),
        ("W\t.\t.\t0\t30\t.\n" + "x" * 30_000, "a line of more than"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(text: str | bytes, found: str) -> None:
    assert found in refusal(text).found


def test_too_long_texts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_text, "MAX_LINES", 3)
    assert "more than 3 lines" in refusal("W\n" * 4).found
    monkeypatch.setattr(scoring_text, "MAX_TEXT_BYTES", 7)
    assert "more than 7 bytes" in refusal("W\n" * 4).found


def test_more_events_than_a_night_can_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorings, "MAX_EVENTS", 2)
    text = "start,event\n0,Apnea\n10,Apnea\n25,Apnea\n"
    assert refusal(text).found == "3 events"


@pytest.mark.parametrize("start", ["0\n0\n0\n", "0:00.004  1 "])
def test_a_text_that_begins_with_zero_is_no_edf(start: str) -> None:
    assert "known form" in refusal(start + "x y z " * 40).found


words = st.sampled_from(
    ["stage", "start", "epoch", "event", "W", "N2", "R", "4", "5", "0", "30", "-1", "1e400", "nan", "22:00:00", "Hypopnea", "\t", ",", ";", "\n", "...", "+30", "#", '"', "|", ":", "event_types", "0+00:00:30"]
)  # fmt: skip


@settings(max_examples=60)
@given(st.one_of(st.binary(max_size=200), st.lists(words, max_size=40).map(lambda w: "".join(w).encode())))  # fmt: skip
def test_any_bytes_are_a_scoring_or_a_typed_refusal(content: bytes) -> None:
    for clock_s in (None, CLOCK_S):
        try:
            scoring = read_scoring(content, 4, clock_s=clock_s)
        except RecordingError:
            continue
        assert scoring.hypnogram is not None or scoring.events is not None
        assert scoring.hypnogram is None or len(scoring.hypnogram) == 4
        for event in scoring.events or ():
            assert 0 <= event.start_s < 120
            assert event.start_s + event.duration_s <= 120


def test_remlogic_with_milliseconds_and_twins_table_of_epochs() -> None:
    remlogic = (
        "RemLogic Event Export\n\nSleep Stage\tPosition\tTime [hh:mm:ss.xxx]\tEvent\tDuration[s]\n"
        "W\tSupine\t{}.000\tSLEEP-S0\t30.000\nN2\tSupine\t{}.000\tSLEEP-S2\t30.000\n"
        "N2\tSupine\t{}.250\tAPNEA-OBSTRUCTIVE\t12.500\n"
    )
    times = [
        f"{t // 3600:02}:{t // 60 % 60:02}:{t % 60:02}"
        for t in (CLOCK_S, CLOCK_S + 30, CLOCK_S + 41)
    ]
    scoring = read_scoring(remlogic.format(*times).encode(), 3, clock_s=CLOCK_S)
    assert scoring.hypnogram is not None
    assert scoring.hypnogram.tolist() == [0, 2, -1]
    assert [(e.start_s, e.duration_s) for e in scoring.events or ()] == [(41.25, 12.5)]
    twin = b"Epoch\tUser-Defined Stage\tCAST-Defined Stage\n1\t0\t0\n2\t4\t4\n3\t5\t5\n4\t7\t7\n"
    numbers = read_scoring(twin, 4).hypnogram
    assert numbers is not None
    assert numbers.tolist() == [0, 3, 4, -1]


def test_a_row_ends_at_the_next_one_though_most_are_a_step_apart() -> None:
    text = "start,stage\n0,W\n60,N1\n90,N2\n150,R\n210,W\n"  # 60 s apart, but for one
    found = read_scoring(text.encode(), 10).hypnogram
    assert found is not None
    assert found.tolist() == [0, 0, 1, 2, 2, 4, 4, 0, 0, -1]


def test_a_cohort_is_known_by_the_files_own_name_whatever_messages_call_it() -> None:
    listed = b"0\n2\n3\n1\n"
    with pytest.raises(RecordingError, match="f00"):
        read_scoring(listed, 4, name="f00")
    found = read_scoring(listed, 4, name="f00", file_name="ucddb002_stage.txt").hypnogram
    assert found is not None
    assert found.tolist() == [0, 1, 2, 4]
