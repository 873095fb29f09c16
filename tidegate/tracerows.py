"""The rows of a trace file: read, checked, and every mistake in them told at once."""

import csv
import gzip
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from tidegate.errors import PlanError

WINDOW_S: Final = 600.0
"""A rate window's length."""

MOST_MISTAKES: Final = 20
"""Reading stops after so many mistakes; a file of another kind would have one a cell."""

_YEAR_S: Final = 366 * 86_400.0
_TIME_STEP: Final = "Count seconds from the trace's start"


class WindowRow(NamedTuple):
    """One client's demand in one ten-minute window; silent windows are left out."""

    client: str
    start_s: float
    rate_rps: float
    cv: float


class RequestRow(NamedTuple):
    """One request."""

    arrival_s: float
    input_tokens: int
    output_tokens: int


Rows = list[WindowRow] | list[RequestRow]
_Cells = tuple[int, list[str]]
"""A line's number and its cells."""


@dataclass(frozen=True)
class _Column:
    name: str
    accepts: Callable[[float], bool]
    expected: str
    next_step: str


_RATE: Final = _Column(
    "rate_rps", lambda rate: rate >= 0, "a number of 0 or more", "Write requests a second"
)
_CV: Final = _Column(
    "cv",
    lambda cv: cv >= 0,
    "a number of 0 or more",
    "Write the gaps' standard deviation over their mean, 1.0 for Poisson",
)
_START: Final = _Column(
    "start_s",
    lambda start_s: 0 <= start_s <= _YEAR_S and start_s % WINDOW_S == 0,
    "a multiple of 600 within a year",
    _TIME_STEP,
)
_ARRIVAL: Final = _Column(
    "arrival_s", lambda at_s: 0 <= at_s <= _YEAR_S, "0 or more, within a year", _TIME_STEP
)
_INPUT, _OUTPUT = (
    _Column(
        name,
        lambda tokens: tokens >= 0 and tokens == int(tokens),
        "a whole number of 0 or more",
        "Write a count of tokens",
    )
    for name in ("input_tokens", "output_tokens")
)
_FORMS: Final = {tuple(row_type._fields): row_type for row_type in (WindowRow, RequestRow)}


@dataclass
class _Sheet:
    """The mistakes found so far in one file."""

    file: Path
    mistakes: list[str] = field(default_factory=list)

    def wrong(self, place: str, got: str, expected: str, next_step: str) -> None:
        self.mistakes.append(f"{self.file}:{place}: got {got}, expected {expected}. {next_step}.")
        if len(self.mistakes) >= MOST_MISTAKES:
            raise self.error()

    def error(self) -> PlanError:
        more = len(self.mistakes) >= MOST_MISTAKES
        ending = [f"Reading stopped after {MOST_MISTAKES} mistakes."] if more else []
        text = "\n".join([*self.mistakes, *ending])
        return PlanError(text, code="trace", mistakes=self.mistakes)

    def number(self, line: int, column: _Column, text: str) -> float | None:
        """Read one cell; None, and a mistake noted, where it is not what the column holds."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and column.accepts(value):
            return value
        self.cell(line, column, text)
        return None

    def cell(self, line: int, column: _Column, text: str, expected: str = "") -> None:
        place = f'{line}: column "{column.name}"'
        self.wrong(place, f'"{text}"', expected or column.expected, column.next_step)


def read_rows(file: Path) -> Rows:
    """Read every row of a `.csv` or `.csv.gz` file; its header tells the form.

    Raises PlanError (code `trace`) with up to 20 mistakes, each naming file, line and column.
    """
    sheet = _Sheet(file)
    with _opened(sheet) as text:
        lines = csv.reader(text, strict=True)
        header = tuple(cell.strip() for cell in next(lines, []))
        if header not in _FORMS:
            _wrong_header(sheet, header)
        cells = _whole_rows(sheet, ((lines.line_num, cells) for cells in lines), header)
        rows: Rows
        if _FORMS[header] is WindowRow:
            rows = list(_windows(sheet, cells))
        else:
            rows = list(_requests(sheet, cells))
    if not rows and not sheet.mistakes:
        sheet.wrong("2", "no rows", f"rows of {','.join(header)}", "Add the measured demand")
    if sheet.mistakes:
        raise sheet.error()
    return rows


def _wrong_header(sheet: _Sheet, header: tuple[str, ...]) -> None:
    expected = " or ".join(f'"{",".join(form)}"' for form in _FORMS)
    got = f'the header "{",".join(header)[:80]}"' if header else "an empty file"
    sheet.wrong("1", got, expected, "Name the columns of one of the two forms")
    raise sheet.error()


@contextmanager
def _opened(sheet: _Sheet) -> Iterator[TextIO]:
    """Open the file as text; what cannot be read becomes a mistake of the file's writer."""
    is_packed = sheet.file.name.endswith(".csv.gz")
    if not is_packed and sheet.file.suffix != ".csv":
        sheet.wrong("1", f'"{sheet.file.name}"', "a name in .csv or .csv.gz", "Rename the file")
        raise sheet.error()
    opener = gzip.open if is_packed else Path.open
    try:
        with opener(sheet.file, "rt", encoding="utf-8-sig", newline="") as text:
            yield text
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        sheet.mistakes.append(
            f"{sheet.file}: cannot be read ({error}), expected CSV text, packed with gzip"
            ' where the name ends in ".gz". Check the path, or fetch the file again.'
        )
        raise sheet.error() from error


def _whole_rows(sheet: _Sheet, rows: Iterable[_Cells], header: tuple[str, ...]) -> Iterator[_Cells]:
    for line, cells in rows:
        if len(cells) == len(header):
            yield line, cells
        elif cells:
            expected = f"{len(header)} ({','.join(header)})"
            sheet.wrong(str(line), f"{len(cells)} cells", expected, "Write a value for each column")


def _windows(sheet: _Sheet, rows: Iterable[_Cells]) -> Iterator[WindowRow]:
    seen: set[tuple[str, float]] = set()
    for line, (client, start, rate, cv) in rows:
        start_s = sheet.number(line, _START, start)
        rate_rps = sheet.number(line, _RATE, rate)
        spread = sheet.number(line, _CV, cv)
        if start_s is None or rate_rps is None or spread is None:
            continue
        if (client, start_s) in seen:
            sheet.cell(line, _START, start, f'one row a window for client "{client}"')
        seen.add((client, start_s))
        yield WindowRow(client, start_s, rate_rps, spread)


def _requests(sheet: _Sheet, rows: Iterable[_Cells]) -> Iterator[RequestRow]:
    last_s = 0.0
    for line, (arrival, given, made) in rows:
        arrival_s = sheet.number(line, _ARRIVAL, arrival)
        input_tokens = sheet.number(line, _INPUT, given)
        output_tokens = sheet.number(line, _OUTPUT, made)
        if arrival_s is None or input_tokens is None or output_tokens is None:
            continue
        if arrival_s < last_s:
            sheet.cell(line, _ARRIVAL, arrival, f"at least {last_s:g}, the row before")
        last_s = max(last_s, arrival_s)
        yield RequestRow(arrival_s, int(input_tokens), int(output_tokens))
