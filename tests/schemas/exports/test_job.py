"""An export is whole or recognised as cut; it takes no folder that is not its own, and no damaged row."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.exports import job
from controlmill.schemas.exports.folder import OWN, ExportFolder
from controlmill.schemas.exports.plan import MOST_ROWS, make_plan
from controlmill.schemas.exports.samples import Sample
from controlmill.schemas.exports.targets import target_named
from controlmill.schemas.exports.targets.files import FilesTarget
from controlmill.schemas.exports.targets.imagefolder import ImageFolder
from controlmill.schemas.names import index_file, shard_file
from tests.helpers import command, digests
from tests.schemas.views.changed_datasets import edit, rewrite


def export(dataset: Path, out: Path | str, *words: str) -> tuple[int, str]:
    ended = command("export", str(dataset), str(out), *words)
    return ended.returncode, ended.stderr


def content(out: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(out).items() if not name.startswith(OWN)}


@pytest.mark.parametrize("to", ["diffusers", "imagefolder"])
def test_an_export_that_was_cut_off_anywhere_goes_on_and_ends_the_same(
    to: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = type(target_named(to))
    monkeypatch.setattr(target, "part_bytes", 0)
    words = ("--to", to, "--conditions", "canny")
    out = tmp_path / "out"
    assert export(dataset, out, *words)[0] == 0
    whole, steps = content(out), 0

    class CutError(Exception):
        pass

    def cut_at(wanted: int) -> None:
        """Every step that changes what is on disk counts; the one wanted does not happen."""
        nonlocal steps
        steps = 0

        def counted(name: str, owner: object) -> None:
            kept = getattr(owner, name)

            def step(*args: object, **options: object) -> object:
                nonlocal steps
                steps += 1
                if steps == wanted:
                    raise CutError
                return kept(*args, **options)

            monkeypatch.setattr(owner, name, step)

        for name in ("save", "save_part", "tidy"):
            counted(name, ExportFolder)
        counted("replace", os)
        counted("write", target)

    for wanted in range(1, 100):
        shutil.rmtree(out)
        with monkeypatch.context() as patched:
            monkeypatch, kept = patched, monkeypatch
            cut_at(wanted)
            try:
                cut = export(dataset, out, *words)[0] != 0
            except CutError:
                cut = True
            monkeypatch = kept
        if not cut:
            break
        last = {"diffusers": "README.md", "imagefolder": "metadata.jsonl"}[to]
        assert set(content(out)) == set(whole) or not (out / last).exists()
        assert export(dataset, out, *words)[0] == 0
        assert content(out) == whole, wanted
        assert [path.name for path in sorted((out / OWN).iterdir())] == ["export.json", "lock"]
    assert wanted > 12


def test_a_part_that_is_written_is_not_written_again(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    kept = FilesTarget.write

    def write(self: FilesTarget, folder: Path, part: int, samples: object, plan: object) -> object:
        written.append(part)
        if len(written) == 3:
            raise KeyboardInterrupt
        return kept(self, folder, part, samples, plan)  # type: ignore[arg-type]

    monkeypatch.setattr(FilesTarget, "write", write)
    monkeypatch.setattr(FilesTarget, "part_bytes", 0)
    words = ("--to", "imagefolder", "--conditions", "canny")
    export(dataset, tmp_path / "out", *words)
    assert not (tmp_path / "out/metadata.jsonl").exists()
    export(dataset, tmp_path / "out", *words)
    assert written == [0, 1, 2, 2, 3]


def test_an_export_that_is_whole_stays(dataset: Path, tmp_path: Path) -> None:
    said = [export(dataset, tmp_path / "out", "--conditions", "hough") for _ in range(2)]
    assert "part 1 of 1 is written" in said[0][1]
    assert "is written" not in said[1][1]
    assert "10 rows, none left out" in said[1][1]


def test_a_folder_of_something_else_is_refused(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").touch()
    assert "is not empty, and no export" in export(dataset, out)[1]
    (out / "mine.txt").unlink()
    assert export(dataset, out, "--conditions", "canny")[0] == 0
    assert "holds another export (diffusers)" in export(dataset, out, "--conditions", "hough")[1]
    assert "is no folder" in export(dataset, out / "README.md")[1]
    assert "local folder" in export(dataset, "s3://bucket/out")[1]
    assert "lies in the dataset" in export(dataset, dataset / "out")[1]
    assert not (dataset / "out").exists()


def test_a_moved_export_is_known_again_unless_its_settings_name_the_folder(dataset: Path, tmp_path: Path) -> None:
    for to, said in (("webdataset", "10 rows, none left out"), ("original", "or was moved")):
        export(dataset, tmp_path / to, "--to", to, "--conditions", "canny")
        moved = (tmp_path / to).rename(tmp_path / f"moved-{to}")
        assert said in export(dataset, moved, "--to", to, "--conditions", "canny")[1]


def test_a_cut_export_of_something_else_begins_anew(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(ImageFolder, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        export(dataset, tmp_path / "out", "--to", "imagefolder", "--conditions", "canny")
    (tmp_path / "out/images").mkdir()
    said = export(dataset, tmp_path / "out", "--to", "imagefolder", "--conditions", "hough")[1]
    assert "is not empty, and its export is not done: images" in said
    (tmp_path / "out/images").rmdir()
    assert export(dataset, tmp_path / "out", "--to", "imagefolder", "--conditions", "hough")[0] == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {OWN, "images", "hough", "metadata.jsonl"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"map": {"bytes": b"no png", "path": "x"}}, "canny, shard 1, row 1: damaged: it is no PNG of 128x128"),
        ({"map": {"bytes": b"\x89PNG\r\n\x1a\n", "path": "x"}}, "canny, shard 1, row 1: damaged"),
        ({"map": {"bytes": None, "path": "x"}}, "canny, shard 1, row 1: damaged"),
        ({"key": "other"}, "do not have the same rows in shard 1"),
    ],
)
def test_a_damaged_row_is_a_message(values: dict[str, object], said: str, dataset: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    rewrite(copy, "canny", edit(1, **values))
    status, text = export(copy, tmp_path / "out", "--conditions", "canny")
    assert (status, said in text) == (1, True), text
    assert not (tmp_path / "out/data").exists()


def test_a_table_that_is_not_there_or_not_complete_is_named(dataset: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    (copy / shard_file("canny", 1)).unlink()
    said = export(copy, tmp_path / "out", "--conditions", "canny,depth")[1]
    assert "has no complete table of maps canny, depth; there are: hough, cartoon" in said
    for table in ("hough", "cartoon"):
        shutil.rmtree(copy / table)
        (copy / index_file(table)).unlink()
    assert "there are: none" in export(copy, tmp_path / "out")[1]


def test_a_part_has_neither_too_many_bytes_nor_too_many_rows(dataset: Path, tmp_path: Path) -> None:
    plan = make_plan(Dataset.open(dataset), "kohya", ["canny"], tmp_path)
    entry = plan.images.shards[0]

    def parts(sizes: list[tuple[int, int]]) -> list[list[int]]:
        shards = tuple(dataclasses.replace(entry, rows=rows, bytes=size) for rows, size in sizes)
        grown = dataclasses.replace(plan, images=dataclasses.replace(plan.images, shards=shards))
        return [list(part) for part in grown.parts(100)]

    assert parts([(1, 40), (1, 60), (1, 1)]) == [[0, 1], [2]]
    assert parts([(1, 400), (1, 60)]) == [[0], [1]]
    assert parts([(MOST_ROWS, 1), (1, 1), (MOST_ROWS - 1, 1), (1, 1)]) == [[0], [1, 2], [3]]


def test_names_of_rows_are_unlike_even_where_keys_are_not() -> None:
    names = [Sample(shard, row, "key", 1, 1, b"", "png", {}, "").name for shard in (0, 12, 120) for row in (0, 1, 10)]
    assert len(set(names)) == 9
    assert len({len(name) for name in names}) == 1
    assert not any(char in name for name in names for char in "_./")


def test_what_is_written_depends_on_the_tables_alone(dataset: Path, tmp_path: Path) -> None:
    opened = Dataset.open(dataset)
    plans = [make_plan(opened, "webdataset", ["canny"], tmp_path / name) for name in ("a", "b")]
    for plan in plans:
        job.export(opened, plan, 1, lambda _: None)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert plans[0].sha256 == plans[1].sha256
    assert plans[0].sha256 != make_plan(opened, "webdataset", ["hough"], tmp_path).sha256
