"""Nights of a corpus -> the band-power baseline, in the table that `embed cohort` writes.

A Ray Data task per night. As with embeddings, finished nights are committed in groups, one that
cannot be had is left out and listed, and a run that was interrupted does only what is missing.
"""

from __future__ import annotations

import functools
from typing import Any

from pipelines.embed_nights import (
    Committer,
    NightResult,
    cells_of_model,
    identity_cells,
    lost_night,
    print_account,
    shared_cells,
)
from pipelines.progress import stage
from pipelines.ray_data import as_ours, map_each
from pipelines.ray_session import require_cluster
from pipelines.stored_nights import (
    CorpusVersions,
    StoredNight,
    corpus_versions,
    find_nights,
    read_night,
)
from sleepmami import storage
from sleepmami.config import BandPowersConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.evaluation.band_powers import band_power_vectors, baseline_id
from sleepmami.inference.embedder import channels_used
from sleepmami.tables import lance_io
from sleepmami.tables.rows import night_embedding_row
from sleepmami.tables.schemas import Row, night_embeddings_schema, provenance, rows_table


def embed_band_powers(corpus: str, output: str, config: BandPowersConfig) -> str:
    """Every accepted night of a corpus -> OUT/night_embeddings.lance; returns its URI.

    Raises:
        TableError: the corpus is missing, or the table holds vectors of another model.
    """
    table = storage.join(output, "night_embeddings.lance")
    model_id, _ = baseline_id(config)
    versions = corpus_versions(corpus)
    nights = find_nights(corpus, versions)
    wanted = shared_cells(storage.join(corpus, "recordings.lance"), versions.recordings)
    there = cells_of_model(table, model_id)
    todo = sorted(name for name in nights if there.get(name) != wanted[name])
    require_cluster(config.cpus_per_night, 0, "embed band-powers", settings="cpus_per_night")
    metadata = provenance({"embed": to_dict(config), "model_id": model_id}, versions._asdict())
    committer = Committer("night", table, there, metadata, config.nights_per_commit)
    committer.outcomes["already there"] = len(nights) - len(todo)
    work = functools.partial(night_fragment, corpus, versions, table, to_dict(config))
    with stage("embed band-powers", len(todo), unit="nights") as advance:
        try:
            for result in map_each(
                [nights[name] for name in todo],
                work,
                lost=lost_night,
                num_cpus=config.cpus_per_night,
            ):
                committer.add(result)
                advance(1, result.recording_id)
        finally:  # what is done stays done, also when the run is interrupted
            committer.flush()
    print_account("night", committer, len(nights))
    return table


def night_fragment(
    corpus: str,
    versions: CorpusVersions,
    table: str,
    config: dict[str, Any],  # Any: a BandPowersConfig's plain dict
    stored: StoredNight,
) -> NightResult:
    """Read a night, measure it, write its uncommitted fragment."""
    settings = from_dict(BandPowersConfig, config)
    try:
        recording, night = read_night(corpus, versions, stored)
        vectors = band_power_vectors(night, settings)
        model_id, sha256 = baseline_id(settings)
        row: Row = night_embedding_row(
            **identity_cells(recording, night),
            **vectors._asdict(),
            model_id=model_id,
            weights_sha256=sha256,
            channels_used=[f"{c['modality']}={c['label']}" for c in channels_used(night)],
            modalities_missing=[m.value for m in night.missing],
        )
    except Exception as error:  # one night costs itself at most
        failure = as_ours(error, stored.recording_id)
        return NightResult(recording_id=stored.recording_id, failure=failure)
    schema = night_embeddings_schema()
    (fragment,) = lance_io.write_fragments(rows_table([row], schema), table, schema)
    return NightResult(recording_id=stored.recording_id, fragment=fragment)
