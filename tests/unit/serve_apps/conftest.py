"""What the tests of the HTTP side share: one small embedding and its shape before redaction."""

import numpy as np
import pytest

from sleepmami.inference.embedder import NightEmbedding


@pytest.fixture
def embedding() -> NightEmbedding:
    """Three epochs, micro width 2 per modality, macro width 4; SPO2 missing, a name in a label."""
    rng = np.random.default_rng(7)
    modality_valid = np.ones((3, 6), bool)
    modality_valid[:, 5] = False
    return NightEmbedding(
        micro=rng.standard_normal((3, 12)).astype(np.float32),
        macro=rng.standard_normal((3, 4)).astype(np.float32),
        cycles=rng.standard_normal((2, 4)).astype(np.float32),
        night=rng.standard_normal(4).astype(np.float32),
        epoch_valid=np.array([True, True, True]),
        modality_valid=modality_valid,
        info={
            "recording_id": "JANE-DOE",
            "model_id": "m-1",
            "weights_sha256": "ab" * 32,
            "code_version": "0.1.0",
            "precision": "float32",
            "both_halves": False,
            "night_vector": "mean_of_valid_epochs",
            "num_epochs": 3,
            "channels_used": [
                {"modality": "EEG", "label": "C4 JANE-DOE", "derivation": "rereferenced"}
            ],
            "modalities_missing": ["SPO2"],
        },
    )
