"""The same pictures are the same rows, from a folder, tars, Parquet, URLs or a store."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from controlmill.pipelines import ingestion
from controlmill.pipelines.corpora.columns import Columns
from controlmill.pipelines.corpora.download_options import DownloadOptions
from tests.helpers import SMALL, KeptResources, rows, write_hostile, write_photos
from tests.pipelines.buckets import Bucket
from tests.pipelines.corpora.hostile_server import plain, serving


def in_tars(photos: Path, names: Sequence[str], target: Path) -> str:
    """A folder's files in two tars, their captions beside them; the address."""
    for number in range(2):
        with tarfile.open(target / f"{number}.tar", "w") as archive:
            for name in names[number * len(names) // 2 : (number + 1) * len(names) // 2]:
                for path in sorted(
                    (photos / name).parent.glob(f"{Path(name).stem}.*"),
                    key=lambda path: path.suffix in (".txt", ".json"),
                ):
                    archive.add(path, str(path.relative_to(photos)))
    return str(target / "{0..1}.tar")


def in_parquet(photos: Path, captions: Mapping[str, str | None], scores: Mapping[str, float], target: Path) -> str:
    """A folder's pictures as Hugging Face has them, in row groups that are no shards; the address."""
    images = [{"bytes": (photos / name).read_bytes(), "path": name} for name in captions]
    texts = pa.array(captions.values(), pa.string())
    table = pa.table({"image": images, "caption": texts, "score": list(scores.values())})
    pq.write_table(table, target / "photos.parquet", row_group_size=7)
    return str(target / "photos.parquet")


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.long)])
def test_the_same_pictures_are_the_same_rows_from_any_kind_of_corpus(
    bucket: Bucket, tmp_path: Path, count: int
) -> None:
    photos = write_photos(tmp_path / "photos", count)
    write_hostile(photos / "part1")
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*") if path.suffix not in ("", ".txt"))
    texts = {name: (photos / name).with_suffix(".txt") for name in names}
    captions = {name: text.read_text() if text.exists() else None for name, text in texts.items()}
    scores = {name: number / 8 for number, name in enumerate(names)}
    for name, score in scores.items():
        (photos / name).with_suffix(".json").write_text(json.dumps({"score": score}))
    bucket.files.put(str(photos), f"bucket/five-{count}", recursive=True)
    answers = {f"/corpus/{name}": plain(200, (photos / name).read_bytes()) for name in names}
    with serving(answers) as server:
        entries = [
            {"url": f"{server.url}/corpus/{name}", "caption": captions[name], "score": scores[name]} for name in names
        ]
        (tmp_path / "urls.jsonl").write_text("\n".join(map(json.dumps, entries)))
        corpora = {
            "folder": str(photos),
            "tar": in_tars(photos, names, tmp_path),
            "parquet": in_parquet(photos, captions, scores, tmp_path),
            "urls": str(tmp_path / "urls.jsonl"),
            "store": f"s3://bucket/five-{count}",
        }
        columns, downloads = Columns(kept=(("score", "float64"),)), DownloadOptions(allow_private_hosts=True)
        config = replace(SMALL, columns=columns, downloads=downloads)
        with KeptResources(threads=1) as resources:
            for kind, corpus in corpora.items():
                ingestion.ingest(corpus, str(tmp_path / kind), config, resources, shard_size=5)
    images = {kind: rows(tmp_path / kind, "images") for kind in corpora}
    refused = {kind: [(row["source"], row["reason"]) for row in rows(tmp_path / kind, "rejected")] for kind in corpora}
    assert len(images["folder"]) == count
    assert [row["score"] for row in images["folder"]] == [scores[row["source"]] for row in images["folder"]]
    for kind in corpora:
        assert images[kind] == images["folder"]
        assert refused[kind] == refused["folder"]
    assert {reason for _, reason in refused["folder"]} == {"truncated", "not_an_image"}
