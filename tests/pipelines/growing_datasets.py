"""Datasets that grow, in tests: a begun one, more pictures, commands that are cut off."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.growing import Growth, extend, retry
from controlmill.pipelines.stages.ingest import IngestConfig
from tests.helpers import SMALL, KeptResources, make, scene

NAMED = "edges:canny=100:200,hough=lsd"


def write_scenes(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        scene(int.from_bytes(name.encode(), "big") % 1000).save(folder / f"{name}.png")
    return folder


def grow(dataset: Path, *photos: Path, config: IngestConfig = SMALL, **settings: Any) -> Growth:
    with KeptResources(threads=1) as resources:
        corpora = [FolderCorpus(str(folder)) for folder in photos]
        return extend(str(dataset), corpora, resources, config, **{"shard_size": 2, **settings})


def take_again(dataset: Path, *reasons: str) -> Growth:
    with KeptResources(threads=1) as resources:
        return retry(str(dataset), resources, reasons)


def begin(folder: Path) -> Path:
    """``photos``, three pictures and a broken one in two shards, and their finished dataset, ``begun``; the folder."""
    write_scenes(folder / "photos", "a", "b", "c")
    (folder / "photos" / "d.png").write_bytes(b"no picture")
    make(folder / "photos", folder / "begun", NAMED, shard_size=2)
    return folder


def copied(begun: Path, target: Path) -> tuple[Path, Path]:
    """(photos, dataset): copies that may be changed; the dataset is as if made from the copied photos."""
    photos = Path(shutil.copytree(begun / "photos", target / "photos"))
    dataset = Path(shutil.copytree(begun / "begun", target / "dataset"))
    local = dataset / "_local.json"
    local.write_text(local.read_text().replace(str(begun / "photos"), str(photos)))
    return photos, dataset


def cut_at(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, calls: int) -> None:
    """The process ends as it calls this for the nth time."""
    whole: Callable[..., Any] = getattr(where, name)
    left = [calls]

    def call(*args: Any, **settings: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return whole(*args, **settings)

    monkeypatch.setattr(where, name, call)
