"""A small bundle, and nights made of noise."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sleepmami.psg import (
    MODALITIES,
    SEGMENT_S,
    STORED_RATE_HZ,
    ChannelDecision,
    ChannelStatistics,
    Decision,
    Modality,
    Night,
    segment_start_epochs,
)
from sleepmami.training.checkpoint import Bundle
from tests.bundles import random_bundle

MakeNight = Callable[..., Night]


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return random_bundle()


@pytest.fixture
def make_night() -> MakeNight:
    """`make_night(num_epochs, modalities)`: noise with every epoch usable."""

    def make(num_epochs: int = 7, modalities: Sequence[Modality] = MODALITIES) -> Night:
        rng = np.random.default_rng(3)
        num_segments = len(segment_start_epochs(num_epochs))
        signals = {}
        for modality in MODALITIES:  # drawn for all, so that subsets share their signals
            shape = (num_segments, SEGMENT_S * STORED_RATE_HZ[modality])
            drawn = rng.normal(0, 1000, shape).astype(np.int16)
            if modality in modalities:
                signals[modality] = drawn
        return Night(
            recording_id="night-1",
            num_epochs=num_epochs,
            signals=signals,
            usable={m: np.ones(num_epochs, bool) for m in signals},
            statistics={m: ChannelStatistics(mean=0.0, std=1.0, unit="uV") for m in signals},
            channels=tuple(
                ChannelDecision(
                    label=f"label {m}",
                    modality=m,
                    unit="uV",
                    sample_rate_hz=100.0,
                    decision=Decision.USED,
                    reason="first",
                )
                for m in signals
            ),
        )

    return make
