"""The page is self-contained, complete, and escapes what a header says."""

import re

import numpy as np
import pytest

from sleepmami.psg import (
    SEGMENT_S,
    STORED_RATE_HZ,
    ChannelDecision,
    ChannelStatistics,
    Decision,
    Modality,
    Night,
    segment_start_epochs,
)
from sleepmami.report.night_report import NightReport, continuous, render

INFO = {"model_id": "sleepmami-0", "weights_sha256": "ab" * 32, "code_version": "0.1.0"}


def night(num_epochs: int = 5, *, scored: bool = False, label: str = "C4-A1") -> Night:
    starts = segment_start_epochs(num_epochs)
    samples = SEGMENT_S * STORED_RATE_HZ[Modality.EEG]
    time = np.arange(num_epochs * 3000)
    wave = (1000 * np.sin(2 * np.pi * time / 10)).astype(np.int16)  # 10 Hz
    segments = np.stack([wave[s * 3000 : s * 3000 + samples] for s in starts])
    return Night(
        recording_id="night-1",
        num_epochs=num_epochs,
        signals={Modality.EEG: segments},
        usable={Modality.EEG: np.ones(num_epochs, bool)},
        statistics={Modality.EEG: ChannelStatistics(mean=0, std=1, unit="uV")},
        channels=(
            ChannelDecision(
                label=label,
                modality=Modality.EEG,
                unit="uV",
                sample_rate_hz=100,
                decision=Decision.USED,
                reason="EEG C4-M1",
            ),
        ),
        hypnogram=np.array([0, 1, 2, 3, 4], np.int8) if scored else None,
    )


def page(source: Night) -> str:
    vectors = np.random.default_rng(0).standard_normal((source.num_epochs, 8)).astype(np.float32)
    return render(
        NightReport(
            night=source,
            micro=vectors,
            macro=vectors,
            epoch_valid=np.ones(source.num_epochs, bool),
            info=INFO,
            micro_history=[{"step": 1, "loss/total": 1.0}, {"step": 2, "loss/total": 0.5}],
        )
    )


def test_the_page_loads_nothing_from_elsewhere() -> None:
    sources = re.findall(r'(?:src|srcset|href)="([^"]*)"', page(night()))
    assert len(sources) >= 4
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_missing_modalities_model_and_hash_are_named() -> None:
    html = page(night())
    assert "EOG, EMG, ECG, RESP, SPO2" in html
    assert INFO["model_id"] in html
    assert INFO["weights_sha256"] in html


@pytest.mark.parametrize("scored", [True, False])
def test_a_hypnogram_is_shown_only_when_the_night_is_scored(scored: bool) -> None:
    html = page(night(scored=scored))
    assert ("Hypnogram, as scored" in html) == scored
    assert ("No scoring was given" in html) != scored


def test_a_label_is_text_and_never_markup() -> None:
    assert "<script>alert" not in page(night(label="<script>alert(1)</script>"))


def test_an_odd_nights_overlapping_segment_is_joined_without_a_seam() -> None:
    joined = continuous(night(), Modality.EEG)
    time = np.arange(5 * 3000)
    np.testing.assert_allclose(joined, np.sin(2 * np.pi * time / 10), atol=1e-3)
