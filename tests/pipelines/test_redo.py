"""Tables that are made again with --overwrite: what is cut off goes on, and what is stale is said."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, planning
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.engine import console
from controlmill.pipelines.stages.ingest import Ingest, IngestConfig
from controlmill.schemas import redo
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.views.verify import verify
from tests.helpers import SMALL_WORDS, KeptResources, command, digests


def test_overwrite_redoes_one_table_and_leaves_the_others(copy: Path) -> None:
    before = digests(copy)
    done = command("annotate", str(copy), "--conditions", "canny=100:200", "--overwrite", "canny")
    assert done.returncode == 0, done.stderr
    after = digests(copy)
    changed = {name for name in after if after[name] != before[name] and not name.startswith("canny/")}
    assert changed <= {"_tables/canny.json", "README.md"}
    assert after.keys() == before.keys()
    assert command("verify", str(copy)).returncode == 0


def test_a_redo_that_was_cut_off_goes_on_with_the_same_command(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests(copy)
    plan = planning.plan_conditions(parse_conditions("canny=100:200"), planning.everywhere(Placement()), None)
    with monkeypatch.context() as cut:
        cut.setattr(console, "switch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt), KeptResources(threads=1) as resources:
            annotation.annotate(str(copy), plan, resources, ["canny"])
    made = (copy / "_redo/canny/0000/00000000.parquet").stat().st_ino
    (copy / "_redo/canny/0000/00000001.parquet").unlink()
    assert {name: digest for name, digest in digests(copy).items() if not name.startswith("_redo/")} == before
    assert [fault.where for fault in verify(Dataset.open(copy))] == ["_redo"]
    # another table's command in between does not end this redo, and the old table is the one that is there
    assert command("annotate", str(copy), "--conditions", "hough=lsd").returncode == 0
    assert command("annotate", str(copy), "--conditions", "canny").returncode == 0
    with monkeypatch.context() as cut:
        cut.setattr(redo, "end", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt), KeptResources(threads=1) as resources:
            annotation.annotate(str(copy), plan, resources, ["canny"])
    assert (copy / "canny/0000/00000000.parquet").stat().st_ino == made
    again = command("annotate", str(copy), "--conditions", "canny=100:200", "--overwrite", "canny")
    assert again.returncode == 0, again.stderr  # which ends the command that was cut off after its switch
    assert (copy / "canny/0000/00000000.parquet").stat().st_ino == made
    assert not (copy / "_redo").exists()
    assert command("annotate", str(copy), "--conditions", "canny", "--overwrite", "canny").returncode == 0
    assert digests(copy) == before


def test_a_redo_asked_of_the_library_ends_with_it_and_is_done_again_when_asked_again(copy: Path) -> None:
    before = digests(copy)
    plan = planning.plan_conditions(parse_conditions("canny"), planning.everywhere(Placement()), None)
    made = set()
    for _ in range(2):
        with KeptResources(threads=1) as resources:
            annotation.annotate(str(copy), plan, resources, ["canny"])
        assert not (copy / "_redo").exists()
        made.add((copy / "canny/0000/00000000.parquet").stat().st_mtime_ns)
    assert len(made) == 2
    assert digests(copy) == before


def test_a_redo_with_another_aim_begins_anew(copy: Path) -> None:
    dataset = Dataset.open(copy)
    redo.begin(dataset.storage, "canny", {"another": "aim"})
    shutil.copytree(copy / "canny", copy / "_redo/canny")
    done = command("annotate", str(copy), "--conditions", "canny=100:200", "--overwrite", "canny")
    assert done.returncode == 0, done.stderr
    assert dataset.footer("canny", 1).provenance.made_by.params == {"low": 100, "high": 200}
    assert not (copy / "_redo").exists()


def test_images_and_a_new_condition_cut_off_go_on_with_the_same_command(corpus: Path, copy: Path) -> None:
    shutil.rmtree(copy / "canny")
    words = ("build", str(corpus), str(copy), "--conditions", "canny", *SMALL_WORDS, "--overwrite", "images")
    assert command(*words).returncode == 0
    # as it was left by a stop: one shard of canny lacks, and the command that made new images is not ended
    (copy / "_tables/canny.json").unlink()
    (copy / "canny/0000/00000001.parquet").unlink()
    dataset = Dataset.open(copy)
    stage = Ingest(FolderCorpus(str(corpus)), IngestConfig.of(dataset))
    aim = {**stage.provenance(), "shard_size": dataset.config.segments[0].shard_size, "corpus": str(corpus)}
    redo.begin(dataset.storage, "images", aim)
    redo.switch(dataset.storage, "images")
    kept = [(copy / f"{name}/0000/00000000.parquet").stat().st_ino for name in ("images", "canny")]
    again = command(*words)
    assert again.returncode == 0, again.stderr
    assert [(copy / f"{name}/0000/00000000.parquet").stat().st_ino for name in ("images", "canny")] == kept
    assert command("verify", str(copy)).returncode == 0  # images made again the same way leave hough as it was
    assert not (copy / "_redo").exists()


def test_images_redone_into_other_shards_make_maps_stale(corpus: Path, copy: Path) -> None:
    again = ("ingest", str(corpus), str(copy), *SMALL_WORDS[:-1], "6", "--overwrite", "images")
    assert command(*again).returncode == 0
    assert "stale" in command("inspect", str(copy)).stdout
    refused = command("annotate", str(copy), "--conditions", "canny")
    assert refused.returncode == 1
    assert "canny is stale" in refused.stderr


def test_no_job_removes_tables_under_another(copy: Path) -> None:
    import json
    import socket

    (copy / "_run/other").mkdir(parents=True)
    owner = {"host": socket.gethostname(), "pid": os.getppid()}
    (copy / "_run/other/owner.json").write_text(json.dumps(owner))
    refused = command("annotate", str(copy), "--conditions", "canny", "--overwrite", "canny")
    assert refused.returncode == 1
    assert "another job works on" in refused.stderr
    assert (copy / "_tables/canny.json").exists()


def test_images_redone_make_maps_stale_and_say_so(corpus: Path, copy: Path) -> None:
    again = ("build", str(corpus), str(copy), "--conditions", "canny", "--resolution", "64", *SMALL_WORDS[2:])
    done = command(*again, "--overwrite", "images,canny")
    assert done.returncode == 0, done.stderr
    assert "stale, because they were made from earlier images: hough" in done.stderr
    listed = command("inspect", str(copy))
    assert "stale" in listed.stdout
    assert "hough" not in (copy / "README.md").read_text()
    checked = command("verify", str(copy))
    assert checked.returncode == 1
    assert "provenance: hough: stale: 2 shards were made from other images" in checked.stdout
    refused = command("annotate", str(copy), "--conditions", "hough=lsd")
    assert refused.returncode == 1
    assert "hough is stale" in refused.stderr
    assert command("annotate", str(copy), "--conditions", "hough=lsd", "--overwrite", "hough").returncode == 0
    assert command("verify", str(copy)).returncode == 0
