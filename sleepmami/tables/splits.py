"""Which split a subject belongs to: a pure function of its id, so it never changes or leaks.

All recordings of one subject share a split because the subject, not the recording, is hashed.
The test split takes the lowest hash values and validation the next ones, so changing the size of
validation moves nobody in or out of test.
"""

import hashlib
from typing import Literal

from sleepmami.config import SplitConfig

Split = Literal["train", "validation", "test"]


def split_of(subject_id: str, config: SplitConfig) -> Split:
    """The split of a subject; the same on every machine and in every release."""
    digest = hashlib.sha256(f"{config.salt}\0{subject_id}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
    if position < config.test:
        return "test"
    if position < config.test + config.validation:
        return "validation"
    return "train"
