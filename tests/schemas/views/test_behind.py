"""The command that brings a table up to date is one that a shell takes as it is meant, whatever a dataset says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from controlmill.schemas.annotator_records import AnnotatorRecord
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.views.behind import behind_lines


def test_words_of_a_dataset_stay_words(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(dataset, tmp_path / "my photos")
    opened = Dataset.open(folder)
    assert behind_lines(opened, ["canny"])[0].endswith(f": controlmill annotate '{folder}'")
    index = opened.index("canny")
    assert index
    record = AnnotatorRecord("canny", "imported", 1, {"layout": "x; echo owned"})
    foreign = replace(index, provenance=replace(index.provenance, annotator=record))
    monkeypatch.setattr(opened, "index", lambda _: foreign)
    assert "--layout 'x; echo owned', as they" in behind_lines(opened, ["canny"])[0]
