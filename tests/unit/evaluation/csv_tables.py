"""Predictions out of columns of text, by the way through a CSV that they take."""

import csv
import io
from collections.abc import Mapping, Sequence

from sleepmami.evaluation.predictions import Predictions, read_predictions_csv


def as_predictions(
    columns: Mapping[str, Sequence[object]], *, quantities: bool = False
) -> Predictions:
    """Truth and guess are names of classes, or quantities."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(zip(*columns.values(), strict=True))
    stream = io.BytesIO(text.getvalue().encode())
    return read_predictions_csv(stream, "made up", quantities=quantities, likelihoods=True)
