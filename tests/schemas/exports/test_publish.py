"""A published folder is a sound dataset with pairs and licences, and tells nothing of the machine that made it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from controlmill.schemas.annotator_records import NetworkRecord, WeightsRecord
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.exports import publish as publishing
from controlmill.schemas.exports.publish import made_by, published_tables
from controlmill.schemas.names import shard_file
from controlmill.schemas.views.verify import verify
from tests.helpers import command, scene
from tests.schemas.views.changed_datasets import edit, rewrite

WORDS = ("--license", "cc-by-4.0", "--conditions", "canny")


def publish(dataset: Path, out: Path, *words: str) -> tuple[int, str]:
    ended = command("publish", str(dataset), str(out), "me/photos", *(words or WORDS))
    return ended.returncode, ended.stderr


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "dataset"))


@pytest.fixture(scope="module")
def published(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder, and what the command said."""
    out = tmp_path_factory.mktemp("published") / "out"
    status, said = publish(dataset, out)
    assert status == 0, said
    return out, said


def test_the_folder_is_a_sound_dataset_with_pairs_that_datasets_reads(
    published: tuple[Path, str], tmp_path: Path
) -> None:
    from datasets import load_dataset

    out, said = published
    assert f"hf upload me/photos {out} . --repo-type dataset --exclude '.controlmill/*'" in said
    assert not list(verify(Dataset.open(out)))
    pairs = load_dataset(str(out), split="train", cache_dir=str(tmp_path))
    assert (pairs.column_names, len(pairs)) == (["image", "conditioning_image", "text", "key"], 10)
    canny = load_dataset(str(out), "canny", split="train", cache_dir=str(tmp_path))
    assert canny["key"][:] == pairs["key"][:]
    card = (out / "README.md").read_text("utf-8")
    assert "license: cc-by-4.0\n" in card
    assert 'load_dataset("me/photos", "images"' in card


def test_nothing_of_this_machine_is_in_it(published: tuple[Path, str], dataset: Path, photos: Path) -> None:
    assert str(photos) in (dataset / "_local.json").read_text("utf-8")
    files = [path for path in published[0].rglob("*") if path.is_file()]
    assert "_local.json" not in {path.name for path in files}
    for path in files:
        data = path.read_bytes()
        assert not [name for name in (dataset, photos, published[0].parent) if str(name).encode() in data], path


def test_tables_are_links_and_are_not_changed(published: tuple[Path, str], dataset: Path) -> None:
    name = shard_file("canny", 2)
    assert os.path.samefile(dataset / name, published[0] / name)
    assert not list(verify(Dataset.open(dataset), pixels=False))


@pytest.mark.parametrize(
    ("table", "values", "said"),
    [
        ("images", {"source": "/home/anna/photos/1.png"}, "images, shard 1, source: a path of this machine"),
        ("images", {"source": "file:///photos/1.png"}, "images, shard 1, source: a path of this machine"),
        ("sources", {"source": r"C:\photos\1.png"}, "sources, shard 1, source: a path of this machine"),
        ("sources", {"source": "https://a:b@host/1.png"}, "sources, shard 1, source: an address with a secret"),
        ("sources", {"locator": "https://x/1.png?X-Amz-Signature=12"}, "shard 1, locator: an address with a secret"),
        ("sources", {"locator": "https://x/1.png?a=b&signature=12"}, "shard 1, locator: an address with a secret"),
    ],
)
def test_what_should_not_be_public_is_named_before_anything_is_written(
    table: str, values: dict[str, str], said: str, copy: Path, tmp_path: Path
) -> None:
    rewrite(copy, table, edit(0, **values))
    (found,) = publishing.private(Dataset.open(copy))
    assert said in found
    if table != "images":  # whose conditions are stale now
        status, text = publish(copy, tmp_path / "out")
        assert (status, said in text) == (1, True), text
    assert not (tmp_path / "out").exists()


def test_a_secret_in_a_column_that_was_kept_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, link = tmp_path / "photos", "https://host/1.png?token=12"
    photos.mkdir()
    scene(1, 64, 64).save(photos / "1.png")
    (photos / "metadata.jsonl").write_text(json.dumps({"file_name": "1.png", "link": link, "note": "/ or ~"}), "utf-8")
    words = ["--resolution", "64", "--conditions", "canny", "--keep-columns", "link,note"]
    built = command("build", str(photos), str(tmp_path / "dataset"), *words)
    assert built.returncode == 0, built.stderr
    (found,) = publishing.private(Dataset.open(tmp_path / "dataset"))
    assert found.startswith("sources, shard 0, columns: an address with a secret")
    monkeypatch.setattr(publishing, "ADDRESSES", {"images": ("source",)})
    (found,) = publishing.private(Dataset.open(tmp_path / "dataset"))
    assert found == f"images, shard 0, link: an address with a secret, {link}"


@pytest.mark.parametrize("source", ["a b/c~d/1.png", "https://host/photos/1.png?size=3", "home/file:1.png"])
def test_other_addresses_may_be_published(source: str, copy: Path) -> None:
    rewrite(copy, "sources", edit(0, source=source))
    assert not list(publishing.private(Dataset.open(copy)))


def test_what_is_left_of_a_url_may_look_like_a_path(copy: Path) -> None:
    record = json.loads((copy / "dataset.json").read_text("utf-8"))
    record["segments"][0]["corpus"] = "urls"
    (copy / "dataset.json").write_text(json.dumps(record), "utf-8")
    for source in ("~anna/1.png", "/1.png"):
        rewrite(copy, "sources", edit(0, source=source, locator=f"https://host/{source}"))
        rewrite(copy, "images", edit(0, source=source))
        assert not list(publishing.private(Dataset.open(copy)))
    rewrite(copy, "sources", edit(0, source="/home/anna/1.png", locator=None, reason="refused_address"))
    (found,) = publishing.private(Dataset.open(copy))
    assert found == "sources, shard 1, source: a path of this machine, /home/anna/1.png"


def test_a_damaged_dataset_is_not_published_until_it_is_mended(dataset: Path, copy: Path, tmp_path: Path) -> None:
    path = copy / shard_file("hough", 1)
    table = pq.read_table(path)
    pq.write_table(table, path)
    status, text = publish(copy, tmp_path / "out")
    assert status == 1
    assert "the dataset is damaged" in text
    assert not (tmp_path / "out/README.md").exists()
    path.unlink()  # the command that made it makes it again
    shutil.copy(dataset / shard_file("hough", 1), path)
    assert publish(copy, tmp_path / "out")[0] == 0


def test_a_repository_must_have_its_name_and_the_folder_lies_elsewhere(dataset: Path, tmp_path: Path) -> None:
    ended = command("publish", str(dataset), str(tmp_path / "out"), "photos", *WORDS)
    assert "must be OWNER/NAME" in ended.stderr
    assert "lies in the dataset" in publish(dataset, dataset / "out")[1]


def test_an_attempt_that_was_cut_off_goes_on(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(publishing, "verify", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        publish(dataset, tmp_path / "out")
    assert not (tmp_path / "out/README.md").exists()
    status, said = publish(dataset, tmp_path / "out")
    assert (status, "is written" in said) == (0, False)
    assert not list(verify(Dataset.open(tmp_path / "out"), pixels=False))


def test_the_licences_of_weights_and_imported_files_are_told(dataset: Path) -> None:
    table = next(state for state in published_tables(Dataset.open(dataset)) if state.table == "canny")
    assert table.index
    network = NetworkRecord("dpt", 1, (WeightsRecord("dpt.bin", "owner/dpt@12", "0" * 64, "non-commercial | <b>"),))
    provenance = table.index.provenance
    annotator = dataclasses.replace(provenance.made_by, network=network)
    index = dataclasses.replace(table.index, provenance=dataclasses.replace(provenance, annotator=annotator))
    (line,) = made_by([dataclasses.replace(table, index=index)])
    assert line == r"| canny | canny, random | dpt.bin (owner/dpt@12) | non-commercial \| &lt;b> |"


def test_licences_that_came_with_the_pictures_are_counted(tmp_path: Path) -> None:
    lines = []
    for number in range(3):
        write = tmp_path / "photos" / f"{number}.png"
        write.parent.mkdir(exist_ok=True)
        scene(number, 64, 64).save(write)
        lines.append(json.dumps({"file_name": write.name, "license": "CC0 | <b>" if number else "CC BY"}))
    (tmp_path / "photos/metadata.jsonl").write_text("\n".join(lines), "utf-8")
    words = ["--resolution", "64", "--conditions", "canny", "--keep-columns", "license"]
    built = command("build", str(tmp_path / "photos"), str(tmp_path / "dataset"), *words)
    assert built.returncode == 0, built.stderr
    status, said = publish(tmp_path / "dataset", tmp_path / "out")
    assert status == 0, said
    card = (tmp_path / "out/README.md").read_text("utf-8")
    assert "| CC0 \\| &lt;b> | 2 |\n| CC BY | 1 |\n" in card
