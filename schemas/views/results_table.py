"""What an evaluation came to, for people: a line a measure and kind of prompt, published values below."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from ..errors import MillError
from ..results import MeasureRecord, ResultsRecord, ValueRecord
from ..terminal.printing import printable

BESIDE = ("chance", "ceiling")  # of a value, in the table


def results_table(record: ResultsRecord) -> Table:
    """Measures with their 95 % intervals, beside what the same pictures have by chance, and the ceiling."""
    report = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("measure", "better", "prompt", "value", "95 % interval", *BESIDE, "rows"):
        numbers = ("value", *BESIDE, "rows")
        report.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for measure in record.measures:
        better = "lower" if measure.lower_is_better else "higher"
        for value in measure.values:
            beside = [number(getattr(value, name)) for name in BESIDE]
            cells = measure.measure, better, value.prompt_kind, number(value.value), interval(value), *beside
            report.add_row(*(Text(printable(cell)) for cell in (*cells, f"{value.rows:,}")))
    return report


def results_lines(record: ResultsRecord) -> Iterator[str]:
    """What was published of each measure, and what is to be known of it, in lines."""
    for measure in record.measures:
        notes: dict[str, list[str]] = {}
        for published in measure.published:
            deviation = f" ± {number(published.deviation)}" if published.deviation is not None else ""
            said = f"{published.method} {number(published.value)}{deviation} ({published.source})"
            notes.setdefault(published.note, []).append(said)
        for note, those in notes.items():
            yield f"{measure.measure}, published: {', '.join(those)}{f'; {note}' if note else ''}"
        if measure.note:
            yield f"{measure.measure}: {measure.note}"
        for value in measure.values:
            of = f"{measure.measure}, prompt {value.prompt_kind}"
            if value.note:
                yield f"{of}: {value.note}"
            if measure.column and value.value is not None and value.low is None:
                yield f"{of}: too few rows for an interval"
            if value.gain_low is not None and value.gain_low <= 0:
                low, high = number(value.gain_low), number(value.gain_high)
                yield f"{of}: not clearly better than chance: better by {low} to {high} (95 % interval)"


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "–" if value is None else f"{value:.4g}"


def interval(value: ValueRecord) -> str:
    """``low to high``, or nothing."""
    return "" if value.low is None else f"{number(value.low)} to {number(value.high)}"


def self_test_line(record: ResultsRecord, measure: str, method: str) -> str:
    """Whether a published value is within the interval of what was measured, in a line.

    Raises:
        MillError: the measure was not taken, or nothing is published of it.
    """
    found = next((one for one in record.measures if one.measure == measure), None)
    published = next((one for one in found.published if one.method == method), None) if found else None
    if found is None or published is None or not found.values:
        raise MillError(f"--self-test: there is no published {measure} of {method} to compare with")
    value = found.values[0]
    said = f"published {measure} of {method}: {number(published.value)}; here {number(value.value)}"
    if published.note:
        return f"self-test: {published.note} ({said})"
    if value.low is None or value.high is None:
        return f"self-test: not known, too few rows ({said})"
    verdict = "reproduced" if value.low <= published.value <= value.high else "not reproduced"
    return f"self-test: {verdict} ({said}, 95 % interval {interval(value)}{_note(found)})"


def _note(measure: MeasureRecord) -> str:
    return f"; {measure.note}" if measure.note else ""
