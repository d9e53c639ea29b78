from pathlib import Path

from tests.endurance.edf_fuzzing import FuzzReport, examine
from tests.endurance.edf_mutations import mutants


def test_damaged_files_end_typed_and_show_their_gaps(tmp_path: Path) -> None:
    """120 of what `make endurance` does 20,000 times."""
    report = FuzzReport()
    for index, mutant in enumerate(mutants(seed=3, count=120)):
        examine(mutant, tmp_path / "night.edf", as_night=index % 12 == 0, report=report)
    assert report.failures == []
    assert report.nights["ok"] + report.nights["gaps"] > 2
    assert set(report.read) == {"ok", "gaps", "not_an_edf", "header_invalid", "truncated_recording",
                                "discontinuous_recording"}  # fmt: skip
