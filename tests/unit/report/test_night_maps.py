"""Maps lay nights where their vectors say."""

import sys

import numpy as np
import pytest

from sleepmami.errors import ConfigError
from sleepmami.report.night_maps import NightPeople, map_findings, plane


def test_a_planted_axis_is_found_and_its_variance_stated() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 0.01, (60, 8)).astype(np.float32)
    vectors[:, 0] += 1
    age = rng.uniform(20, 80, 60)
    vectors[:, 3] += ((age - 50) / 100).astype(np.float32)
    where = plane(vectors)
    assert where.explained > 0.9
    nobody = np.full(60, np.nan)
    findings = map_findings(where, NightPeople(age_years=age, bmi=nobody, female=nobody))
    assert "Age goes with PC1 most, at a correlation of" in findings[0]
    assert findings[1] == "There are 0 women and 0 men."
    assert findings[2] == "BMI is known of too few nights."


def test_umap_that_is_not_installed_is_refused_with_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ConfigError, match=r"pip install 'sleepmami\[umap\]'"):
        plane(np.eye(8, dtype=np.float32), "umap")
