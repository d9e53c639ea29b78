"""Follow-up with many ties, and what other packages say of it.

Computed once with scikit-survival 0.28.0 and lifelines 0.30.3, which would pull pandas and more
into the development install for these two numbers.
"""

import numpy as np
from numpy.typing import NDArray

C_INDEX = 0.7109120521172638  # both packages, of round(0.8 a - 0.5 b)
BRESLOW = (1.18238712, -0.40568639, 0.20233473)  # scikit-survival, ties="breslow"


def tied_follow_up() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Three features, time and event of 40 people; 17 different times, 33 events."""
    rng = np.random.default_rng(5)
    x = np.round(rng.normal(size=(40, 3)), 2)
    time = np.ceil(rng.exponential(6 / np.exp(0.8 * x[:, 0] - 0.5 * x[:, 1])))
    event = rng.random(40) < 0.7
    return x, time, event
