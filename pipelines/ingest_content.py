"""What a file of an ingest holds: its bytes, or where they are, and their hash."""

from __future__ import annotations

import hashlib
import os

from xxhash import xxh3_128, xxh3_128_hexdigest

from pipelines.ingest_plan import IngestItem
from sleepmami import storage
from sleepmami.signals.edf_records import FileDigest


def new_digest() -> FileDigest:
    """What hashes a file like `file_hash`, while its signals are read."""
    return FileDigest(xxh3_128)


def content_of(item: IngestItem) -> tuple[str | bytes, str]:
    """(path of a local file or bytes of an object, hash); an object is fetched once.

    A local file is only hashed here where that may spare reading its signals: its stamp may say
    that it is the one in the corpus, and a new file is hashed while its signals are read.
    """
    file, known = item.file, item.known
    if not storage.is_local(file):
        data = storage.read_bytes(file)
        return data, xxh3_128_hexdigest(data)
    if known is None:
        return file, ""
    if known.source_hash and item.same_file and not item.rehash:
        return file, known.source_hash
    return file, file_hash(file)


def file_hash(file: str) -> str:
    """Of a local file; empty of what is none or cannot be read, for load_night says why."""
    if not storage.is_local(file) or not os.path.isfile(file):
        return ""
    try:
        with open(file, "rb", buffering=0) as stream:
            return hashlib.file_digest(stream, xxh3_128).hexdigest()
    except OSError:
        return ""
