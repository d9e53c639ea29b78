"""What a page of sections is made of: findings, pictures, tables, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sleepmami.report.pictures import Picture


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell; `strong` is the best of its row, which is also said by a mark."""

    text: str
    strong: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PageTable:
    """A table whose first column names its rows; on a telephone each row is a card.

    Attributes:
        caption: what it is of.
        columns: headings, the first column's too.
        rows: as many cells as columns.
    """

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """One line: what is not here, and the command that makes it."""

    what: str
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One heading with what belongs to it.

    Attributes:
        key: of its address in the page.
        title: the heading.
        findings: what the section says, a sentence each; none where nothing is here.
        pictures: in their order.
        tables: below the pictures.
        missing: what could be here.
        notes: small print.
        folded: whether the tables, which repeat the pictures, open at a click; print has them.
    """

    key: str
    title: str
    findings: Sequence[str] = field(default=())
    pictures: Sequence[Picture] = field(default=())
    tables: Sequence[PageTable] = field(default=())
    missing: Sequence[Missing] = field(default=())
    notes: Sequence[str] = field(default=())
    folded: bool = False


def cells(*texts: str) -> list[Cell]:
    """Plain cells."""
    return [Cell(text=text) for text in texts]
