"""A separated text file read row by row; every error names file, line and column.

A cell that cannot be right costs that cell only, an id that cannot be read its row; both are
counted. Where they are a fifth of a column or more, the column means something else: an error.
"""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from sleepmami import storage
from sleepmami.errors import TableError
from sleepmami.tables.demographics import Sex

UNKNOWN: Final = frozenset(
    ("", ".", "-", "na", "n/a", "nan", "null", "none", "unknown", "not reported")
)
MAX_LINES_BEFORE_HEADER: Final = 10  # titles above the header, as spreadsheets export them
# Of letters only those that mean one sex wherever they are used; Spanish M is a woman where men are
# H, and such a table has too many odd cells to be read.
_FEMALE = (
    "female f woman w weiblich femme femenino feminino femminile mujer mulher donna vrouw kobieta"
)
_MALE = (
    "male m man mann m\u00e4nnlich maennlich mannlich homme masculin masculino maschile maschio"
    " hombre homem uomo m\u0119\u017cczyzna"
)
_SEXES: Final[Mapping[str, Sex]] = {
    **dict.fromkeys([*_FEMALE.split(), "f\u00e9minin", "frau"], "female"),
    **dict.fromkeys(_MALE.split(), "male"),
}
_FLAGS: Final = {
    **dict.fromkeys(("1", "yes", "y", "true"), True),
    **dict.fromkeys(("0", "no", "n", "false"), False),
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# numbers and letters for "not known" in the cohorts' dictionaries; no such number is a measurement
MISSING_NUMBER: Final = re.compile(r"-(8{1,4}|9{1,5})(\.0+)?")
_MISSING = re.compile(rf"{MISSING_NUMBER.pattern}|\.?[a-z]", re.IGNORECASE)
_NO_SEX = frozenset(("8", "9", "88", "99", "-8", "-9", "-88", "-99"))
_MAX_ODD = 0.2  # of a column's cells
_AGE_YEARS = (0.0, 120.0)
_BMI = (8.0, 100.0)
_AHI_PER_H = (0.0, 200.0)


class RowError(TableError):
    """A row of which nobody can say whose it is."""

    def __init__(self, message: str, column: str) -> None:
        super().__init__(message)
        self.column = column


def read_text(source: str | os.PathLike[str] | bytes, file: str) -> str:
    """The text of a file in UTF-8, in UTF-16 with a byte order mark, or in Windows-1252.

    Raises:
        TableError: the file cannot be read, or is none of them.
    """
    try:
        data = source if isinstance(source, bytes) else storage.read_bytes(os.fspath(source))
    except OSError as error:
        raise TableError(f"{file}: could not be read: {error.strerror or error}") from error
    if data[:4] == b"PK\x03\x04":
        raise TableError(f"{file}: found a zip archive, as .xlsx and .ods are; expected CSV")
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):  # the last is Excel's "CSV"
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise TableError(f"{file}: found bytes that are no text; expected UTF-8")


class CsvTable:
    """The rows of a text separated by commas, semicolons or tabs, below a given header line.

    Attributes:
        header: column names in lower case, in order.
        unknown: words, in lower case, for a value that is not known.
        odd: by column, what was wrong with cells that could not be read.
    """

    def __init__(self, file: str, text: str, header_line: int = 1) -> None:
        self.file = file
        self.unknown: frozenset[str] = UNKNOWN
        self.odd: dict[str, list[TableError]] = {}
        self._filled: Counter[str] = Counter()
        self._skipped = header_line - 1
        body = io.StringIO(text, newline="")
        for _ in range(self._skipped):
            body.readline()
        start = body.tell()
        first = body.readline()
        body.seek(start)
        self.separator = max(",;\t", key=first.count)
        self._reader = csv.reader(body, delimiter=self.separator)
        self.header = [" ".join(cell.lower().split()) for cell in self._next_row() or []]
        self.line = header_line

    @classmethod
    def candidates(cls, file: str, text: str) -> Iterator["CsvTable"]:
        """The table with its header at the first line, at the second, and so on."""
        num_lines = text.count("\n", 0, 1_000_000) + 1
        for header_line in range(1, min(MAX_LINES_BEFORE_HEADER, num_lines) + 1):
            yield cls(file, text, header_line)

    def rows(self, columns: frozenset[str]) -> Iterator["Row"]:
        """The rows that are not blank, with the cells of those of the `columns` that are there.

        Raises:
            TableError: one of the columns comes twice, or a row has too many or too few cells.
        """
        repeated = sorted({name for name in columns if self.header.count(name) > 1})
        if repeated:
            raise TableError(
                f"{self.file}: line {self.line}: found the columns {repeated} more than once; "
                "expected them once"
            )
        places = [(name, place) for place, name in enumerate(self.header) if name in columns]
        while (cells := self._next_row()) is not None:
            self.line = self._reader.line_num + self._skipped
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(self.header):
                raise TableError(
                    f"{self.file}: line {self.line}: found {len(cells)} cells; "
                    f"expected {len(self.header)}, one per column"
                )
            row = {name: cells[place].strip() for name, place in places}
            self._filled.update(n for n, cell in row.items() if cell.casefold() not in self.unknown)
            yield Row(self, row)

    def require_few_odd(self) -> None:
        """TableError, the first one, where odd cells are many of a column."""
        for column, errors in self.odd.items():
            if len(errors) >= _MAX_ODD * max(self._filled[column], len(errors)):
                raise errors[0]

    def _next_row(self) -> list[str] | None:
        try:
            return next(self._reader, None)
        except csv.Error as error:
            raise TableError(
                f"{self.file}: line {self._reader.line_num + self._skipped}: found {error}; "
                "expected a CSV line"
            ) from None


class Row:
    """One row; every value is None where the cell says unknown or the column is not there.

    It is also None where the cell is odd: that is noted in the table, and counted.
    """

    def __init__(self, table: CsvTable, cells: Mapping[str, str]) -> None:
        self._table = table
        self._cells = cells
        self.line = table.line

    def error(self, column: str, expected: str) -> RowError:
        """The error that says what was found in a cell and what was expected."""
        found = self._cells.get(column, "")
        return RowError(
            f"{self._table.file}: line {self.line}, column {column!r}: "
            f"found {found!r}; expected {expected}",
            column,
        )

    def _note_odd(self, column: str, expected: str) -> None:
        self._table.odd.setdefault(column, []).append(self.error(column, expected))

    def text(self, column: str) -> str | None:
        """The cell as it stands."""
        text = self._cells.get(column, "")
        return None if text.casefold() in self._table.unknown else text

    def required(self, column: str, what: str) -> str:
        """The cell as it stands; TableError when it is empty."""
        text = self._cells.get(column, "")
        if not text:
            raise self.error(column, what)
        return text

    def number(self, column: str, what: str, limits: tuple[float, float]) -> float | None:
        """A number within limits; any other is odd, but for codes of missing values."""
        text = self.text(column)
        if text is None or _MISSING.fullmatch(text):
            return None
        plain = text if self._table.separator == "," else text.replace(",", ".")
        low, high = limits
        if _NUMBER.fullmatch(plain) and low <= float(plain) <= high:
            return float(plain)
        self._note_odd(column, f"{what} within {low:g}..{high:g}, or nothing where unknown")
        return None

    def whole(self, column: str, what: str, limits: tuple[int, int]) -> int | None:
        """A whole number within limits, also when a spreadsheet wrote it as 3.0."""
        value = self.number(column, what, limits)
        if value is None or value == int(value):
            return None if value is None else int(value)
        self._note_odd(column, what)
        return None

    def age_years(self, column: str) -> float | None:
        """An age within 0..120 years."""
        return self.number(column, "age in years", _AGE_YEARS)

    def bmi(self, column: str) -> float | None:
        """A body mass index within 8..100 kg/m^2."""
        return self.number(column, "BMI in kg/m^2", _BMI)

    def ahi(self, column: str) -> float | None:
        """An apnea-hypopnea index within 0..200 per hour."""
        return self.number(column, "AHI in events per hour", _AHI_PER_H)

    def flag(self, column: str) -> bool | None:
        """Yes or no, true or false, 1 or 0."""
        text = self.text(column)
        if text is None:
            return None
        flag = _FLAGS.get(plain_code(text))
        if flag is None:
            self._note_odd(column, "yes or no, or nothing where unknown")
        return flag

    def sex(self, column: str, codes: Mapping[str, Sex] | None = None) -> Sex | None:
        """A sex in words, or by the codes of a known dialect; a number without `codes` is odd."""
        text = self.text(column)
        if text is None:
            return None
        code = plain_code(text)
        if codes is not None:
            sex = codes.get(code) or _SEXES.get(code)
            if sex is None and code not in _NO_SEX:
                self._note_odd(column, f"{_spelt(codes)}, or nothing where unknown")
            return sex
        if code in _SEXES:
            return _SEXES[code]
        if _NUMBER.fullmatch(code):
            self._note_odd(
                column,
                "female or male: bare numbers mean different sexes in different cohorts "
                "(1 is male in SHHS and MESA, female in MrOS)",
            )
        else:
            self._note_odd(column, "female or male, or nothing where unknown")
        return None


def plain_code(text: str) -> str:
    """A code as it is compared: without case, and 1.0 as 1."""
    code = text.strip().casefold()
    if _NUMBER.fullmatch(code):
        return f"{float(code):g}"
    return code


def _spelt(codes: Mapping[str, Sex]) -> str:
    return " or ".join(f"{code} for {sex}" for code, sex in codes.items())
