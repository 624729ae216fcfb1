"""Two variants of one condition side by side in a dataset, each in a table with a name of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controlmill.annotators.canny import Canny
from controlmill.evaluation.fidelity import find_annotator
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.views.sheet import contact_sheet
from controlmill.schemas.views.verify import verify
from controlmill.training import start
from controlmill.training.config import TrainConfig
from controlmill.training.trainer import Trainer
from tests.helpers import command, digests, rows

BUILD = ("--resolution", "64", "--shard-size", "4", "--conditions", "canny,edges-fixed:canny=100:200")


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with canny of drawn thresholds, and of fixed ones; both are made by one command."""
    made = tmp_path_factory.mktemp("named") / "dataset"
    ended = command("build", str(photos), str(made), *BUILD)
    assert ended.returncode == 0, ended.stderr
    return made


def test_both_tables_are_whole_and_say_what_they_are(folder: Path) -> None:
    opened = Dataset.open(folder)
    assert opened.condition_tables() == ["canny", "edges-fixed"]
    assert list(verify(opened)) == []
    found = opened.condition("edges-fixed")
    assert (found.name, found.table, found.kind) == ("canny", "edges-fixed", "binary")
    assert opened.condition("canny") == CONDITIONS["canny"]
    drawn, fixed = rows(folder, "canny"), rows(folder, "edges-fixed")
    assert [row["key"] for row in drawn] == [row["key"] for row in fixed]
    assert [row["map"] for row in drawn] != [row["map"] for row in fixed]
    assert contact_sheet(opened, 2).width > contact_sheet(opened, 2, tables=["canny"]).width
    assert "edges-fixed: canny=" in command("inspect", str(folder)).stdout


def test_the_map_is_that_of_the_condition_without_a_name(folder: Path, photos: Path, tmp_path: Path) -> None:
    plain = (*BUILD[:-1], "canny=100:200")
    assert command("build", str(photos), str(tmp_path / "plain"), *plain).returncode == 0
    assert [row["map"] for row in rows(tmp_path / "plain", "canny")] == [
        row["map"] for row in rows(folder, "edges-fixed")
    ]


def test_one_is_redone_without_the_other(folder: Path) -> None:
    before = digests(folder / "canny")
    words = ("--conditions", "edges-fixed:canny=50:100", "--overwrite", "edges-fixed")
    refused = command("annotate", str(folder), *words[:2])
    assert refused.returncode == 1
    assert "params.low: 100, now 50" in refused.stderr
    assert command("annotate", str(folder), *words).returncode == 0
    assert digests(folder / "canny") == before
    assert list(verify(Dataset.open(folder))) == []
    assert command("annotate", str(folder), "--conditions", BUILD[-1], *words[2:]).returncode == 0


def test_training_takes_the_table_that_is_named(
    folder: Path, tmp_path: Path, short_config: Callable[..., TrainConfig]
) -> None:
    config = short_config(condition="edges-fixed", where=["edges-fixed.coverage>0"], steps=1, batch_size=2)
    prepared = start.begin(str(folder), tmp_path / "run", config)
    found = find_annotator(prepared.condition, prepared.provenance())
    assert not isinstance(found, str)
    assert found[0] == Canny(100, 200)
    Trainer(tmp_path / "run", config, prepared, resume=False).train()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("canny,canny:canny=1:2", "canny is asked for twice"),
        ("depth:canny", "depth is another table's name"),
        ("Edges:canny", "a table's name is lower-case letters"),
        ("../x:canny", "a table's name is lower-case letters"),
        (":canny", "a table's name is lower-case letters"),
        ("images:canny", "images is another table's name"),
        ("mine:caption", "captions have one table"),
        ("mine:nothing", "no condition is called 'nothing'"),
    ],
)
def test_a_name_that_cannot_be_is_said(folder: Path, words: str, said: str) -> None:
    ended = command("annotate", str(folder), "--conditions", words)
    assert ended.returncode == 1
    assert said in " ".join(ended.stderr.split())
