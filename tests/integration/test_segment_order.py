"""Which rows a Micro training sees after a restart, through Ray Data itself."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import ray

from pipelines.pretrain_micro import segment_steps
from pipelines.segment_source import SegmentSource, rows_of
from sleepmami.config import (
    EngineConfig,
    LoopConfig,
    MicroPretrainConfig,
    WorkersConfig,
)
from sleepmami.tables import lance_io
from tests.corpora import write_corpus

pytestmark = pytest.mark.ray

NUM_NIGHTS, SEGMENTS_PER_NIGHT, BATCH = 3, 40, 8
STEPS_PER_PASS = NUM_NIGHTS * SEGMENTS_PER_NIGHT // BATCH
SETTINGS = MicroPretrainConfig(
    batch_size=BATCH,
    shuffle_buffer=32,
    loop=LoopConfig(seed=3),
    engine=EngineConfig(micro_batch=4),
    workers=WorkersConfig(num_workers=1),
)


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("corpus")
    corpus = write_corpus(folder, num_train=NUM_NIGHTS, num_test=0, num_epochs=80)
    return f"{corpus}/segments.lance"


def rows_seen(uri: str, start: int, num_steps: int) -> list[float]:
    """One number per row, which noise makes unique, in the order a training gets them."""
    version = lance_io.version(uri)
    runs = rows_of(uri, [f"night{n}" for n in range(NUM_NIGHTS)], version=version)
    dataset = ray.data.read_datasource(SegmentSource(uri, version, runs, seed=3))
    dataset.context.execution_options.preserve_order = True  # as pipelines.ray_train does
    (shard,) = dataset.streaming_split(1, equal=True)
    steps = segment_steps(shard, SETTINGS, STEPS_PER_PASS)(start)
    return [
        row
        for step in islice(steps, num_steps)
        for batch in step
        for row in batch.signal_SBT[0, :, :50].double().sum(-1).tolist()
    ]


@pytest.mark.usefixtures("ray_cluster")
def test_every_pass_sees_every_row_once_in_another_order(segments: str) -> None:
    seen = rows_seen(segments, 0, 2 * STEPS_PER_PASS)
    half = len(seen) // 2
    assert len(set(seen)) == half == NUM_NIGHTS * SEGMENTS_PER_NIGHT
    assert sorted(seen[:half]) == sorted(seen[half:])
    assert seen[:half] != seen[half:]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("start", [5, STEPS_PER_PASS + 6])
def test_a_resumed_pass_sees_the_rows_that_were_left(segments: str, start: int) -> None:
    """With what was trained on before the interruption, every row of the pass once."""
    begun = start // STEPS_PER_PASS * STEPS_PER_PASS
    before = rows_seen(segments, 0, start)[begun * BATCH :]
    after = rows_seen(segments, start, begun + STEPS_PER_PASS - start)
    assert Counter(before + after) == Counter(set(before + after))
    assert len(before + after) == NUM_NIGHTS * SEGMENTS_PER_NIGHT
