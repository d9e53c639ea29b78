"""Which tables an embedding goes on with."""

from pathlib import Path

import pytest

from pipelines.embed_nights import cells_of_model, may_go_on
from sleepmami.config import EmbedConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import TableError
from sleepmami.tables import lance_io
from sleepmami.tables.schemas import night_embeddings_schema, provenance


def table_of(folder: Path, version: str) -> str:
    """An empty night_embeddings.lance of a schema version."""
    uri, schema = str(folder / "night_embeddings.lance"), night_embeddings_schema()
    schema = schema.with_metadata({**schema.metadata, b"schema_version": version.encode()})
    made = provenance({"embed": to_dict(EmbedConfig())})
    lance_io.commit(uri, [], schema, metadata=made)
    return uri


def test_a_table_of_an_earlier_kind_of_night_vector_is_refused_before_anything_is_embedded(
    tmp_path: Path,
) -> None:
    config, schema = EmbedConfig(), night_embeddings_schema()
    assert may_go_on(table_of(tmp_path / "new", "3"), "m", config, schema)
    old = table_of(tmp_path / "old", "2")
    with pytest.raises(TableError, match=r"version 2; expected .* version 3: .* new folder"):
        may_go_on(old, "m", config, schema)
    with pytest.raises(TableError, match="version 2"):
        cells_of_model(old, "m")
    assert not may_go_on(str(tmp_path / "none.lance"), "m", config, schema)
