"""Build and annotate are one job, whatever they make, and its bytes are those of a job for each stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, ingestion, planning
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.engine.process import JobProcess
from controlmill.pipelines.engine.run_folder import Run
from controlmill.pipelines.engine.stage import GroupTask, Output, Plan
from controlmill.pipelines.growing import extend
from controlmill.pipelines.stages.annotate import Annotate
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.names import index_file, shard_file
from tests.helpers import SMALL, KeptResources, digests, make, write_photos

CONDITIONS = ("canny", "hough=lsd", "cartoon=standard")


def plan_of(conditions: str) -> Plan:
    return planning.plan_conditions(parse_conditions(conditions), planning.everywhere(Placement()), None)


def build(photos: Path, dataset: Path, plan: Plan) -> Dataset:
    with KeptResources(threads=1) as resources:
        return annotation.build(str(photos), str(dataset), SMALL, plan, resources, 4)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the jobs that were begun."""
    begun: list[str] = []
    run = JobProcess.run

    def running(process: JobProcess, job: Any, *more: Any) -> int:
        begun.append(job.stage.name)
        return run(process, job, *more)

    monkeypatch.setattr(JobProcess, "run", running)
    return begun


def test_a_build_is_one_job_and_makes_the_bytes_of_two(
    photos: Path, dataset: Path, tmp_path: Path, jobs: list[str]
) -> None:
    build(photos, tmp_path / "dataset", plan_of(",".join(CONDITIONS)))
    assert jobs == ["ingest, annotate"]
    assert digests(tmp_path / "dataset") == digests(dataset)


def test_stages_of_an_annotate_are_one_job(photos: Path, dataset: Path, tmp_path: Path, jobs: list[str]) -> None:
    with KeptResources(threads=1) as resources:
        ingestion.ingest(str(photos), str(tmp_path / "dataset"), SMALL, resources, 4)
        stages = tuple(stage for condition in CONDITIONS for stage in plan_of(condition))
        annotation.annotate(str(tmp_path / "dataset"), stages, resources)
    assert jobs == ["ingest", "annotate, annotate, annotate"]
    assert digests(tmp_path / "dataset") == digests(dataset)


class FailsOnce(Annotate):
    """Canny that cannot do shard 1."""

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        if shard == 1:
            raise ValueError("not this one")
        return super().tasks(dataset, run, shard, missing)


def test_a_map_that_fails_keeps_its_images_and_the_next_run_makes_the_rest(
    photos: Path, tmp_path: Path, jobs: list[str]
) -> None:
    (good,) = plan_of("canny")
    assert isinstance(good, Annotate)
    with pytest.raises(MillError, match="1 of 4 shards could not be done:\n  shard 1: ValueError: not this one"):
        build(photos, tmp_path / "dataset", (FailsOnce(good.groups, {}, {}),))
    stopped = Dataset.open(tmp_path / "dataset")
    assert stopped.whole_index("images")
    assert stopped.committed("canny") == {0, 2, 3}
    build(photos, tmp_path / "dataset", (good,))
    assert jobs == ["ingest, annotate", "annotate"]
    make(photos, tmp_path / "undisturbed", "canny")
    assert digests(tmp_path / "dataset") == digests(tmp_path / "undisturbed")


def test_images_that_lack_in_one_segment_are_made_with_the_maps_of_all(tmp_path: Path, jobs: list[str]) -> None:
    photos, more = write_photos(tmp_path / "photos", 5), write_photos(tmp_path / "more", 6)
    folder = tmp_path / "dataset"
    with KeptResources(threads=1) as resources:
        ingestion.ingest(str(photos), str(folder), SMALL, resources, 4)
        extend(str(folder), [FolderCorpus(str(more))], resources, SMALL, 4)
        annotation.annotate(str(folder), plan_of("canny"), resources)
    undisturbed = digests(folder)
    for name in (shard_file("images", 3), index_file("images"), *(shard_file("canny", shard) for shard in range(4))):
        (folder / name).unlink()
    (folder / index_file("canny")).unlink()
    del jobs[:]
    build(photos, folder, plan_of("canny"))
    assert jobs == ["ingest, annotate", "ingest, annotate"]
    assert digests(folder) == undisturbed
