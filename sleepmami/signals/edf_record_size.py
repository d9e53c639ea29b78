"""Whether the samples per record that a header states are those of its file.

A header that states too many makes a whole file look as if it were cut, one that states too few as
if bytes followed it; from the second data record on every sample would belong to another signal.
The size gives it away, for it is then a multiple of the number of records. A file that was cut may
be so by chance, so the data decide: signals differ in offset and size, and samples one data record
apart are of the same signal, those a little more or less apart are not. One signal alone tells
nothing so.
"""

import numpy as np
from numpy.typing import NDArray

from sleepmami.signals.edf_header import EdfHeader, invalid_error
from sleepmami.signals.edf_records import EdfSource

_MIN_RECORDS = 10  # fewer divide any size too often
_LOOK_BYTES = 2**20
_MIN_LAGS = 3  # data records to look at; a short rest of a cut file is unlike itself by chance
_NEAR = (0.87, 0.93, 0.97, 1.03, 1.07, 1.13)  # lengths that are no data record's either
# than samples about as far apart: so are those of the same signal, where signals differ. Of real
# files that were cut to such a size 1 in 1,500 is refused, of wrong headers 19 in 20
_CLEARLY = 0.9
_MAX_RECORD_BYTES = 2**24  # of longer ones there are never many


def require_record_size(header: EdfHeader, source: EdfSource, name: str) -> None:
    """Refuse a file whose data records are evidently longer or shorter than the header says.

    Nothing is refused that has whole records of the stated size, in whatever number.

    Raises:
        RecordingError: header_invalid, or unreadable.
    """
    stated, declared = header.record_bytes, header.declared_records
    data_bytes = source.size - header.num_bytes
    if declared < _MIN_RECORDS or data_bytes <= 0 or data_bytes % declared:
        return
    actual = data_bytes // declared
    whole = data_bytes % stated == 0 or max(actual, stated) % min(actual, stated) == 0
    if whole or actual % header.sample_bytes or max(actual, stated) > _MAX_RECORD_BYTES:
        return
    samples = _samples(header, source, data_bytes, max(_LOOK_BYTES, 4 * max(actual, stated)))
    if len(samples) * header.sample_bytes < _MIN_LAGS * max(actual, stated):
        return
    lag, stated_lag = actual // header.sample_bytes, stated // header.sample_bytes
    near = {max(1, round(lag * factor)) for factor in _NEAR} - {lag}
    by_actual, by_stated = _unlikeness(samples, lag), _unlikeness(samples, stated_lag)
    by_near = float(np.median([_unlikeness(samples, other) for other in sorted(near)] or [0]))
    if by_actual < min(by_stated, _CLEARLY * by_near):
        raise invalid_error(
            name,
            f"samples per record that make {stated} bytes, and {declared} records of {actual}",
            "a header that states the samples which a data record has",
        )


def _samples(
    header: EdfHeader, source: EdfSource, data_bytes: int, num_bytes: int
) -> NDArray[np.float64]:
    """Samples from the middle of the data, of whatever signals; of 24 bits the upper 16."""
    width = header.sample_bytes
    count = min(num_bytes, data_bytes) // width
    skipped = (data_bytes - count * width) // 2 // width * width
    (block,) = source.pick(header.num_bytes + skipped, count, width, [(width - 2, width)])
    return block.reshape(-1).view("<i2").astype(np.float64)


def _unlikeness(samples: NDArray[np.float64], lag: int) -> float:
    """The mean difference of samples that far apart."""
    return float(np.abs(samples[lag:] - samples[:-lag]).mean())
