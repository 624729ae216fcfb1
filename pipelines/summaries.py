"""What a command says at its end. Heavy imports wait until then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlmill.schemas.terminal.console import output

if TYPE_CHECKING:
    from controlmill.schemas.dataset import Dataset


def print_summary(dataset: Dataset, tables: list[str], seconds: float) -> None:
    """What a command has made, what it left, and what is to be done next."""
    from controlmill.schemas.snapshot import Snapshot
    from controlmill.schemas.views.accounting import accounting
    from controlmill.schemas.views.behind import behind, behind_lines
    from controlmill.schemas.views.report import empty_lines, table_report

    from .engine.mend import others_damaged

    dataset = Snapshot(dataset)
    stale = [table for table in dataset.condition_tables() if dataset.state(table).status == "stale"]
    late = behind(dataset)
    others = [table for table in dataset.tables() if table not in (*tables, *stale, *late, "sources", "rejected")]
    output.show(table_report(dataset, tables))
    for line in (*empty_lines(dataset, tables), *accounting(dataset)[: None if "images" in tables else 1]):
        output.say(line)
    if "images" in tables and dataset.config.rows and not dataset.state("images").rows:
        output.say(
            f"warning: no picture was kept; `controlmill inspect {dataset.storage.address} --rejects 20` says why"
        )
    if others:
        output.say(f"other tables, not changed: {', '.join(others)}")
    for line in others_damaged(dataset, tables):
        output.say(line)
    output.say(f"done in {seconds:,.1f} s: {dataset.storage.address}")
    if stale:
        output.say(
            f"stale, because they were made from earlier images: {', '.join(stale)}; redo them with "
            f"controlmill annotate {dataset.storage.address} --conditions … --overwrite {','.join(stale)}"
        )
    for line in behind_lines(dataset, late):
        output.say(line)
