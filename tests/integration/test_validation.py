"""Validation inside a training on two Ray Train workers."""

from pathlib import Path

import pytest

from pipelines import pretrain_micro
from sleepmami.config_edit import replace_at
from sleepmami.psg import MODALITIES
from tests.corpora import write_corpus
from tests.integration.test_pretrain import MICRO, history

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

SHORT = replace_at(MICRO, {"loop.max_steps": 6, "loop.validate_every": 4, "loop.validate_rows": 16})


def test_held_out_losses_stand_in_the_rows_of_their_steps(tmp_path: Path) -> None:
    corpus = write_corpus(
        tmp_path / "corpus", num_train=4, num_validation=5, num_test=0, num_epochs=8
    )
    pretrain_micro.pretrain_micro(corpus, str(tmp_path / "run"), SHORT)
    rows = history(tmp_path / "run" / "micro" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    validated = [row for row in rows if "validation/total" in row]
    assert [row["step"] for row in validated] == [4, 6]
    for row in validated:
        assert {f"validation/reconstruction_{m}" for m in MODALITIES} <= row.keys()
        # sine nights, of which those held out are like the others
        assert row["validation/total"] == pytest.approx(row["loss/total"], rel=0.2)


def test_a_corpus_without_a_validation_split_trains_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path / "corpus", num_train=4, num_test=1, num_epochs=8)
    pretrain_micro.pretrain_micro(corpus, str(tmp_path / "run"), SHORT)
    assert "nothing is validated" in capsys.readouterr().err
    rows = history(tmp_path / "run" / "micro" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert not any(name.startswith("validation/") for row in rows for name in row)
