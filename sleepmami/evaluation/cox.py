"""Cox' partial likelihood, eq. 7, for linear risks under a ridge penalty.

Shapes: N subjects.

Ties: the risk set of a subject is everybody whose time is as long or longer, as eq. 7 has it, also
for events at the same time. That is Breslow's way, not Efron's.
"""

from __future__ import annotations

import numpy as np

from sleepmami.errors import TableError
from sleepmami.evaluation.metrics import Array, Bools, Floats, Ints


def negative_log_likelihood(risk_N: Floats, time_N: Array, event_N: Bools) -> tuple[float, Floats]:
    """Eq. 7, and its gradient by the risks [N].

    Args:
        risk_N: h, the log of the hazard up to a constant.
        time_N: to the event, or to the end of the follow-up.
        event_N: whether the event happened; at least one.
    """
    order = np.argsort(-time_N, kind="stable")
    risk, time, event = risk_N[order], time_N[order], event_N[order]
    num_events = event.sum()
    # of subjects with the same time the last sum holds them all
    last = np.searchsorted(-time, -time, side="right") - 1
    log_sum = np.logaddexp.accumulate(risk)[last]
    value = (log_sum - risk)[event].sum() / num_events
    # k is in the risk set of every event up to its time: sum those from the shortest time on
    first = np.searchsorted(-time, -time, side="left")
    inverse = np.where(event, -log_sum, -np.inf)
    log_inverse = np.logaddexp.accumulate(inverse[::-1])[::-1][first]
    share = np.exp(risk + log_inverse)
    slope_N = np.empty_like(risk)
    slope_N[order] = (share - event) / num_events
    return float(value), slope_N


class CoxLoss:
    """Eq. 7 as the loss of a linear probe; it has no intercept, which would change nothing.

    Args:
        time_N: of each subject; the unit does not matter.
        event_N: whether the event happened.

    Raises:
        TableError: it happened to nobody.
    """

    num_outputs = 1
    has_intercept = False

    def __init__(self, time_N: Array, event_N: Bools) -> None:
        self._time_N, self._event_N = time_N, event_N
        if not event_N.any():
            raise TableError(f"found no event among {len(event_N)} subjects to fit on")

    def of(self, score_NO: Floats, rows: Ints) -> tuple[float, Floats]:
        """Loss and gradient; rows without an event have no likelihood to fit, and cost nothing."""
        event_N = self._event_N[rows]
        if not event_N.any():
            return 0.0, np.zeros_like(score_NO)
        value, slope_N = negative_log_likelihood(score_NO[:, 0], self._time_N[rows], event_N)
        return value, slope_N[:, None]

    def curvature(self, score_NO: Floats, rows: Ints) -> Floats:
        """The part of the second derivative that each risk has by itself, from above."""
        event_N = self._event_N[rows]
        slope_N = self.of(score_NO, rows)[1][:, 0]
        return np.asarray(np.maximum(slope_N + event_N / max(int(event_N.sum()), 1), 0))

    def held_out(self, score_NO: Floats, fit_rows: Ints, held_rows: Ints) -> float:
        """What the held-out subjects add to the likelihood of all.

        Verweij and Van Houwelingen (1993). Their own likelihood would only compare few with few.
        """
        every = np.concatenate([fit_rows, held_rows])
        whole = self.of(score_NO[every], every)[0] * self._event_N[every].sum()
        return float(
            whole - self.of(score_NO[fit_rows], fit_rows)[0] * self._event_N[fit_rows].sum()
        )
