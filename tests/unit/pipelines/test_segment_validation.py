"""Which rows validate, and how they reach the workers."""

import numpy as np
import pytest

from pipelines.segment_validation import held_out_rows, held_out_steps
from sleepmami.config import LoopConfig, MicroPretrainConfig, WorkersConfig
from sleepmami.config_edit import replace_at
from sleepmami.tables import lance_io
from sleepmami.training.segment_order import runs_of
from sleepmami.training.segment_reader import split_runs
from tests.corpora import write_corpus

CONFIG = MicroPretrainConfig(
    batch_size=8,
    loop=LoopConfig(validate_every=1, validate_rows=20),
    workers=WorkersConfig(num_workers=2),
)
CONFIG = replace_at(CONFIG, {"engine.micro_batch": 4})


@pytest.mark.parametrize(("num_rows", "chosen"), [(100, 16), (9, 8), (7, 6), (1, 0), (0, 0)])
def test_whole_batches_or_all_that_the_workers_can_share(num_rows: int, chosen: int) -> None:
    rows = held_out_rows({"a": runs_of(np.arange(num_rows))}, CONFIG)
    assert len(rows) == len(set(rows)) == chosen
    assert set(rows) <= set(range(num_rows))
    assert rows == held_out_rows({"a": runs_of(np.arange(num_rows))}, CONFIG)


def test_nothing_is_held_out_when_nothing_is_validated() -> None:
    config = replace_at(CONFIG, {"loop.validate_every": 0, "loop.validate_rows": 2048})
    assert held_out_rows({"a": runs_of(np.arange(100))}, config) == []


@pytest.mark.parametrize("num_validation", [2, 5])
def test_a_worker_gets_its_share_of_every_batch(tmp_path, num_validation: int) -> None:
    corpus = write_corpus(
        tmp_path / "corpus",
        num_train=1,
        num_validation=num_validation,
        num_test=0,
        num_epochs=6,
    )
    uri = f"{corpus}/segments.lance"
    version = lance_io.version(uri)
    rows = held_out_rows(split_runs(corpus, "validation", version=version), CONFIG)
    steps = list(held_out_steps(uri, rows, CONFIG, version=version)())
    sizes = [[batch.num_rows for batch in step] for step in steps]
    assert sizes == ([[3]] if num_validation == 2 else [[4]])  # 6 and 15 segments, two workers
