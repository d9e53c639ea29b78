"""When each data record was recorded, from the time-keeping annotations of EDF+ and BDF+.

The first annotation of a data record is its onset (edfplus.info/specs/edfplus.html, 2.2.4). Where
onsets jump forward, nothing was recorded in between: a gap. Onsets are text, often rounded to the
millisecond, so a step is a jump only beyond MIN_STEP_TOLERANCE_S and half a sample of the fastest
signal; what smaller steps add up to is a jump too once it exceeds MAX_DRIFT_S.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepmami.errors import RecordingCode, RecordingError

MIN_STEP_TOLERANCE_S = 1e-3
MAX_DRIFT_S = 0.5  # of a record from its place; small against an epoch
MIN_RECORDED_SHARE = 0.1  # bounds what filled gaps can cost: ten times the samples in the file
MAX_GAPS = 10_000

ONSET_BYTES = 40  # a sign, the digits of a number, and two \x14
_POWERS_OF_TEN = np.array([float(f"1e{power}") for power in range(ONSET_BYTES)])
_ROUNDING_S = 1e-6  # of sums and differences of seconds in float64


@dataclass(frozen=True)
class Timeline:
    """Runs of records that follow each other without a gap.

    Attributes:
        origin_s: onset of the first record as written; 0 when it has none.
        run_records: first record of each run; the first is 0.
        run_delays_s: time lost in gaps before each run; the first is 0, and they only grow.
        notes: what was unusual but harmless.
    """

    origin_s: float = 0.0
    run_records: tuple[int, ...] = (0,)
    run_delays_s: tuple[float, ...] = (0.0,)
    notes: tuple[str, ...] = ()

    def gaps(self, record_duration_s: float) -> tuple[tuple[float, float], ...]:
        """(start_s, stop_s) of each gap, from the first sample."""
        runs = zip(self.run_records[1:], self.run_delays_s[:-1], self.run_delays_s[1:], strict=True)
        return tuple(
            (record * record_duration_s + before_s, record * record_duration_s + after_s)
            for record, before_s, after_s in runs
        )


def record_onsets_s(text_RB: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The onset that opens each record's text, nan where there is none.

    Reads column by column, all records at once: a night of 1-s records takes milliseconds.

    Args:
        text_RB: R records, B bytes of their first annotation signal.
    """
    num_records = len(text_RB)
    closed_CR = np.zeros((ONSET_BYTES + 1, num_records), dtype=np.uint8)  # C columns
    columns = min(ONSET_BYTES, text_RB.shape[1])
    closed_CR[:columns] = text_RB[:, :columns].T
    value, decimals = np.zeros(num_records), np.zeros(num_records, dtype=np.intp)
    after_point, complete = np.zeros((2, num_records), dtype=bool)
    reading = (closed_CR[0] == ord("+")) | (closed_CR[0] == ord("-"))
    for column in range(1, ONSET_BYTES):
        byte = closed_CR[column]
        digit = byte - np.uint8(ord("0"))  # wraps, so that all else is 10 or more
        is_digit = reading & (digit < 10)
        value = np.where(is_digit, value * 10 + digit, value)
        decimals += is_digit & after_point
        is_point = reading & ((byte == ord(".")) | (byte == ord(","))) & ~after_point
        if column == 1:  # a number starts with a digit
            is_point[:] = False
        else:
            complete |= reading & (byte == 0x14) & (closed_CR[column + 1] == 0x14)
        after_point |= is_point
        reading = is_digit | is_point
        if not reading.any():
            break
    value /= _POWERS_OF_TEN[decimals]  # one rounding, as in reading the decimal number itself
    value[closed_CR[0] == ord("-")] *= -1
    value[~complete] = np.nan
    return value


def read_timeline(
    onsets_s: NDArray[np.float64],
    *,
    record_duration_s: float,
    fastest_hz: float,
    claims_continuous: bool,
    name: str,
) -> Timeline:
    """Place every record in time.

    A file that claims to be continuous is believed only as far as its onsets agree. Jumps forward
    are gaps all the same, with a note. Onsets that contradict each other or are missing are put
    aside with a note, unless the last record is late: then there is a gap of unknown place.

    Raises:
        RecordingError: discontinuous_recording when records overlap, run backwards or (unless the
            file claims to be continuous) have no onset, when less than MIN_RECORDED_SHARE of the
            time was recorded, and beyond MAX_GAPS.
    """
    missing = np.isnan(onsets_s)
    known = np.flatnonzero(~missing)
    origin_s = 0.0 if missing[0] else float(onsets_s[0])
    if len(onsets_s) == 1:
        return Timeline(origin_s)
    if not len(known) and not claims_continuous:
        raise _refused(name, "no data record with an onset", "the onset of each")
    if not len(known):
        return Timeline(notes=("no data record with an onset; taken as continuous",))
    delays_s = onsets_s[known] - onsets_s[known[0]] - (known - known[0]) * record_duration_s
    tolerance_s = max(MIN_STEP_TOLERANCE_S, 0.5 / fastest_hz if fastest_hz else 0.0) + _ROUNDING_S
    problem = _contradiction(onsets_s, known, delays_s, tolerance_s, record_duration_s)
    if problem and claims_continuous and delays_s[-1] <= MAX_DRIFT_S:
        note = f"{problem}; taken as continuous"
        return Timeline(origin_s, notes=(note,))
    if problem:
        expected = f"records that follow each other every {record_duration_s:g} s, or later"
        raise _refused(name, problem, expected)
    starts = _run_starts(delays_s, tolerance_s)
    run_delays_s = np.maximum.accumulate(delays_s[starts])
    recorded_s = len(onsets_s) * record_duration_s
    span_s = recorded_s + float(run_delays_s[-1])
    if recorded_s < MIN_RECORDED_SHARE * span_s:
        found = f"{recorded_s:.6g} s of signal spread over {span_s:.6g} s"
        raise _refused(name, found, f"signal in at least {MIN_RECORDED_SHARE:.0%} of the time")
    if len(starts) - 1 > MAX_GAPS:
        raise _refused(name, f"{len(starts) - 1} gaps", f"at most {MAX_GAPS}")
    notes: tuple[str, ...] = ()
    if claims_continuous and len(starts) > 1:
        notes = (f"not continuous as claimed; gaps by its own onsets: {len(starts) - 1}",)
    return Timeline(origin_s, tuple(starts.tolist()), tuple(run_delays_s.tolist()), notes)


def _contradiction(
    onsets_s: NDArray[np.float64],
    known: NDArray[np.intp],
    delays_s: NDArray[np.float64],
    tolerance_s: float,
    record_duration_s: float,
) -> str | None:
    """Why the onsets cannot all be right, or None."""
    if len(known) < len(onsets_s):
        return f"data record {int(np.argmax(np.isnan(onsets_s)))} without an onset"
    steps_s = np.diff(delays_s)
    backwards = np.flatnonzero(steps_s < -tolerance_s)
    if len(backwards):
        record = int(backwards[0]) + 1
        step_s = steps_s[backwards[0]] + record_duration_s
        return f"data record {record} starts {step_s:.6g} s after the one before"
    early_s = np.maximum.accumulate(delays_s) - delays_s
    if early_s.max() > MAX_DRIFT_S:
        record = int(np.argmax(early_s > MAX_DRIFT_S))
        return f"data record {record} starts {early_s[record]:.3g} s before its time"
    return None


def _run_starts(delays_s: NDArray[np.float64], tolerance_s: float) -> NDArray[np.intp]:
    """First record of each run: after each jump, and where small steps have added up to one."""
    late = np.diff(delays_s) > tolerance_s
    starts = np.flatnonzero(np.concatenate(([True], late)))
    lengths = np.diff(np.append(starts, len(delays_s)))
    drift_s = delays_s - np.repeat(np.maximum.accumulate(delays_s[starts]), lengths)
    if drift_s.max() > MAX_DRIFT_S:
        level = np.floor(np.maximum.accumulate(delays_s) / MAX_DRIFT_S)
        starts = np.flatnonzero(np.concatenate(([True], late | (np.diff(level) > 0))))
    run_delays_s = np.maximum.accumulate(delays_s[starts])
    # a jump that only makes good for records that came early leaves nothing out
    return starts[np.concatenate(([True], np.diff(run_delays_s) > 0))]


def _refused(name: str, found: str, expected: str) -> RecordingError:
    return RecordingError(
        RecordingCode.DISCONTINUOUS_RECORDING, file=name, found=found, expected=expected
    )
