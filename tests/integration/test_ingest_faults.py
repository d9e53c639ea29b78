"""Small numbers of the faults that tests/endurance/test_ingest_faults.py brings by the thousand."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.ingest_edf import ingest
from pipelines.verify import verify
from sleepmami.config import IngestConfig
from sleepmami.psg import Stage
from sleepmami.simulation.night_files import nsrr_xml
from tests.ingest_faults import kill_again_and_again, partial_or_double, write_cohort
from tests.noise_nights import StoppedError, in_process, recordings, stop_at, write_noise

pytestmark = pytest.mark.ray

CONFIG = IngestConfig(nights_per_commit=2, recording_ids="file_name")


def test_killed_at_random_moments_and_run_again_is_as_never_killed(
    ray_cluster: Path, tmp_path: Path
) -> None:
    folder = write_cohort(tmp_path / "edfs", 24)
    assert ingest(str(folder), str(tmp_path / "whole"), CONFIG).outcomes == {"ingested": 23, "rejected": 1}  # fmt: skip
    content = verify(str(tmp_path / "whole")).content_hash
    assert content is not None
    found = list(kill_again_and_again(folder, tmp_path, ray_cluster, 3, wait_s=0.7, seed=1))
    assert [partial_or_double(summary) for _, summary in found] == [[]] * len(found)
    finished = [summary for state, summary in found if state == "finished"]
    assert finished
    assert [s.content_hash for s in finished] == [content] * len(finished)


def test_one_corrupt_file_of_twenty_costs_itself(ray_cluster: Path, tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "edfs", 20)
    random_bytes = random.Random(0).randbytes(40_000)
    (folder / "n0019.edf").write_bytes(random_bytes)  # was the copy
    found = ingest(str(folder), str(tmp_path / "corpus"), CONFIG)
    assert found.outcomes == {"ingested": 19, "rejected": 1}
    codes = {name: row["rejected_code"] for name, row in recordings(tmp_path / "corpus").items()}
    assert codes == {f"n{i:04}": None if i < 19 else "not_an_edf" for i in range(20)}


def test_copies_end_the_same_wherever_a_run_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night changes hands, and two copies change the original that they name."""
    in_process(monkeypatch)
    config = IngestConfig(nights_per_commit=16, recording_ids="file_name")
    edfs, earlier, expected = (tmp_path / name for name in ("edfs", "earlier", "expected"))
    for name, seed in {"b": 1, "c": 1, "d": 1, "e": 4}.items():
        write_noise(edfs / f"{name}.edf", seed)
    ingest(str(edfs), str(earlier), config)
    for name, seed in {"a": 1, "e": 5, "f": 4}.items():
        write_noise(edfs / f"{name}.edf", seed)
    (edfs / "c.xml").write_bytes(nsrr_xml(np.array([Stage.N2] * 4, np.int8), ()))
    ingest(str(edfs), str(expected), config)
    content = verify(str(expected)).content_hash
    for call in range(1, 100):
        corpus = Path(shutil.copytree(earlier, tmp_path / f"stopped-{call}"))
        with pytest.MonkeyPatch.context() as stopping:
            stop_at(stopping, call)
            try:
                ingest(str(edfs), str(corpus), config)
            except StoppedError:
                pass
            else:
                break
        ingest(str(edfs), str(corpus), config)
        assert verify(str(corpus)).content_hash == content
    assert content is not None
    assert call > 8
