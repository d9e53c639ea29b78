import random
import re

import numpy as np
import pytest

from sleepmami.errors import RecordingError
from sleepmami.signals import edf_timeline
from sleepmami.signals.edf_timeline import Timeline, read_timeline, record_onsets_s


def onsets_of(*texts: bytes, width: int = 60) -> list[float]:
    block = b"".join(text.ljust(width, b"\0")[:width] for text in texts)
    return record_onsets_s(np.frombuffer(block, np.uint8).reshape(-1, width)).tolist()


def timeline(
    *onsets_s: float, duration_s: float = 1.0, fastest_hz: float = 100.0, continuous: bool = False
) -> Timeline:
    return read_timeline(
        np.array(onsets_s),
        record_duration_s=duration_s,
        fastest_hz=fastest_hz,
        claims_continuous=continuous,
        name="a.edf",
    )


def refused(*onsets_s: float, **options: float) -> str:
    with pytest.raises(RecordingError) as caught:
        timeline(*onsets_s, **options)  # type: ignore[arg-type]  # bool and float options alike
    assert caught.value.code == "discontinuous_recording"
    return caught.value.found


# ------------------------------------------------------------------------------- reading the onsets


def test_onsets_are_the_numbers_that_open_each_record() -> None:
    texts = (
        b"+0\x14\x14\0",
        b"-1.5\x14\x14",
        b"+2,25\x14\x14\0+9\x14\x14",
        b"+30.\x14\x14",
        b"+0012\x14\x14",
    )
    assert onsets_of(*texts) == [0.0, -1.5, 2.25, 30.0, 12.0]


@pytest.mark.parametrize(
    "text",
    [b"", b"0\x14\x14", b"+\x14\x14", b"+.5\x14\x14", b"+1.2.3\x14\x14", b"+1\x14a\x14", b"+1\x1530\x14\x14", b" +1\x14\x14",
     b"+1e5\x14\x14", b"+1 \x14\x14", b"+1\x14", b"+" + b"1" * 60 + b"\x14\x14"],
)  # fmt: skip
def test_anything_else_is_no_onset(text: bytes) -> None:
    assert np.isnan(onsets_of(text, b"+1\x14\x14")).tolist() == [True, False]


def test_an_onset_may_fill_its_signal_to_the_last_byte() -> None:
    assert onsets_of(b"+12\x14\x14", width=5) == [12.0]
    assert np.isnan(onsets_of(b"+123\x14", width=5)).all()


def test_onsets_agree_with_a_regular_expression_on_random_text() -> None:
    rng = random.Random(7)
    texts = [bytes(rng.choices(b"0123456789+-.,\x14\x14\0", k=9)) for _ in range(4000)]
    texts += [b"+" + bytes(rng.choices(b"0123456789.\x14", k=9)) + b"\x14\x14" for _ in range(4000)]
    wanted = []
    for text in texts:
        found = re.match(rb"([+-]\d+(?:[.,]\d*)?)\x14\x14", text)
        wanted.append(float(found[1].replace(b",", b".")) if found else np.nan)
    assert np.isfinite(wanted).sum() > 500
    np.testing.assert_array_equal(onsets_of(*texts, width=12), wanted)


# ------------------------------------------------------------------------------- placing the records


def test_a_jump_forward_starts_a_run_after_a_gap() -> None:
    found = timeline(0.5, 1.5, 9.5, 10.5, 20.5)
    assert (found.origin_s, found.run_records, found.run_delays_s) == (0.5, (0, 2, 4), (0.0, 7.0, 16.0))  # fmt: skip
    assert found.gaps(1.0) == ((2.0, 9.0), (11.0, 20.0))


def test_onsets_rounded_to_the_millisecond_make_no_gap() -> None:
    exact = np.arange(30_000) / 3
    assert timeline(*exact.round(3), duration_s=0.333333, fastest_hz=600).run_records == (0,)


def test_a_jump_of_more_than_half_a_sample_and_a_millisecond_counts() -> None:
    assert timeline(0.0, 1.0, 2.0049).run_records == (0,)
    assert timeline(0.0, 1.0, 2.0051).run_records == (0, 2)
    assert timeline(0.0, 1.001, fastest_hz=1000).run_records == (0,)
    assert timeline(0.0, 1.002, fastest_hz=1000).run_records == (0, 1)


def test_small_steps_become_a_gap_once_they_add_up_to_half_a_second() -> None:
    onsets_s = np.arange(2000) * 1.0009  # 1.8 s late in the end
    found = timeline(*onsets_s)
    placed_s = np.arange(2000.0)
    for record, delay_s in zip(found.run_records, found.run_delays_s, strict=True):
        placed_s[record:] = np.arange(record, 2000) + delay_s
    assert len(found.run_records) == 4
    assert np.abs(placed_s - onsets_s).max() < 0.501


def test_a_jump_that_only_makes_good_for_early_records_leaves_no_gap() -> None:
    early = [record * 0.9991 for record in range(100)]  # 0.09 s early in the end
    found = timeline(*early, 100.0, 101.0)
    assert found.run_records == (0,)
    assert timeline(*early, 102.0, 103.0).gaps(1.0) == ((100.0, 102.0),)


@pytest.mark.parametrize(
    ("onsets_s", "found"),
    [
        ((0, 0, 1), "data record 1 starts 0 s after the one before"),
        ((0, 5, 4), "data record 2 starts -1 s after the one before"),
        ((0, 1, np.nan), "data record 2 without an onset"),
        ((np.nan, np.nan), "no data record with an onset"),
        (tuple(np.arange(2000) * 0.9991), "data record 556 starts 0.5 s before its time"),
        ((0, 1, 99), "3 s of signal spread over 100 s"),
        ((0, 1e38), "2 s of signal spread over 1e+38 s"),
    ],
)
def test_records_without_a_place_in_time_are_refused(onsets_s: tuple[float, ...], found: str) -> None:  # fmt: skip
    assert refused(*onsets_s) == found


def test_more_gaps_than_a_night_can_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edf_timeline, "MAX_GAPS", 2)
    assert len(timeline(0, 2, 4).gaps(1.0)) == 2
    assert refused(0, 2, 4, 6) == "3 gaps"


# -------------------------------------------------------------------- files that claim no gap at all


def test_a_claim_of_continuity_does_not_hide_a_gap() -> None:
    found = timeline(0, 1, 9, 10, continuous=True)
    assert found.gaps(1.0) == ((2.0, 9.0),)
    assert found.notes == ("not continuous as claimed; gaps by its own onsets: 1",)


@pytest.mark.parametrize(
    ("onsets_s", "problem"),
    [
        ((0, 0, 0, 0), "data record 1 starts 0 s after the one before"),
        ((0, 1, 99, 3), "data record 3 starts -96 s after the one before"),
        ((0, np.nan, 2, np.nan), "data record 1 without an onset"),
    ],
)
def test_contradicting_onsets_are_put_aside_with_a_note(
    onsets_s: tuple[float, ...], problem: str
) -> None:
    found = timeline(*onsets_s, continuous=True)
    assert found.run_records == (0,)
    assert found.notes == (f"{problem}; taken as continuous",)


@pytest.mark.parametrize("onsets_s", [(0, 99, 2, 100), (0, np.nan, 2, 100), (0, 1, 2, 100)])
def test_a_gap_that_cannot_be_placed_is_refused_whatever_is_claimed(
    onsets_s: tuple[float, ...],
) -> None:
    assert refused(*onsets_s, continuous=True)


def test_a_file_without_any_onset_is_as_continuous_as_it_claims() -> None:
    found = timeline(np.nan, np.nan, continuous=True)
    assert found == Timeline(notes=("no data record with an onset; taken as continuous",))


@pytest.mark.parametrize("continuous", [False, True])
def test_a_single_record_has_no_gap(continuous: bool) -> None:
    assert timeline(np.nan, continuous=continuous) == Timeline()
    assert timeline(3.5, continuous=continuous) == Timeline(3.5)
