"""Options of the jobs: what they may be, and what excludes each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from apache_beam.options.pipeline_options import StandardOptions
from typer.testing import CliRunner

from controlmill.__main__ import app
from controlmill.pipelines.corpora.download_options import DownloadOptions
from controlmill.pipelines.engine.cluster_address import ClusterAddress
from controlmill.pipelines.options import IngestOptions, JobOptions, tables_to_redo
from controlmill.pipelines.stages.ingest import IngestConfig
from controlmill.schemas.errors import MillError
from controlmill.schemas.images.formats import Limits


def test_all_faults_of_all_groups_are_named_at_once_and_nothing_is_made(photos: Path, tmp_path: Path) -> None:
    words = "--resolution 65 --fit square --max-megabytes nan --invert mask --dtype int8 --batch-size 0 --workers 2"
    made = tmp_path / "dataset"
    done = CliRunner().invoke(app, ["build", str(photos), str(made), *words.split(), "--runner", "DirectRunner"])
    assert isinstance(done.exception, MillError)
    assert str(done.exception).split("\n  ") == [
        "--resolution 65: must be from 64 to 8192, in multiples of 8",
        "--fit square: must be one of crop, bucket, none",
        "--max-megabytes nan: must be a finite number",
        "--invert needs --conditions-from, the folder that holds the maps",
        "--dtype int8: must be one of auto, fp32, bf16, fp16",
        "--batch-size 0: must be auto, or 1 or more",
        "--workers is for this machine; --runner DirectRunner sets the parallelism by its own --beam-option",
        "--runner DirectRunner may download another runner and hang: use FnApiRunner",
    ]
    assert not made.exists()


def test_options_that_are_not_given_are_the_defaults_of_the_jobs() -> None:
    assert IngestOptions().config(DownloadOptions()) == IngestConfig()
    assert IngestOptions(max_megapixels=0.5, max_megabytes=1, min_side=8, white_level=4095).config(
        DownloadOptions()
    ) == IngestConfig(limits=Limits(500_000, 1024 * 1024, 8), white=4095)
    engine = JobOptions(beam_option=("a=1", "b=2")).engine()
    assert (engine.runner, engine.workers, engine.options) == ("FnApiRunner", 0, ("a=1", "b=2"))


def test_a_cluster_goes_with_no_other_engine(photos: Path, tmp_path: Path) -> None:
    words = "--cluster flink:8081:1 --workers 2 --runner PortableRunner"
    done = CliRunner().invoke(app, ["build", str(photos), str(tmp_path / "dataset"), *words.split()])
    assert isinstance(done.exception, MillError)
    assert [fault for fault in str(done.exception).split("\n  ") if "cluster" in fault] == [
        "--cluster 'flink:8081:1' is not the address of a cluster: write HOST:8786 (Dask), tls://HOST:8786, "
        "flink://HOST:8081 or spark://HOST:7077; an IPv6 address in [brackets]",
        "--workers is for this machine; a --cluster has workers of its own",
        "--cluster and --runner PortableRunner both say what runs the job: give one of them",
    ]
    assert JobOptions(cluster="a:1").engine().cluster == ClusterAddress("dask", "a", 1)


def test_a_runner_is_one_of_beams_names_or_a_class(photos: Path, tmp_path: Path) -> None:
    words = ["build", str(photos), str(tmp_path / "dataset"), "--runner", "Foo"]
    for more in ([], ["--dry-run"]):
        done = CliRunner().invoke(app, [*words, *more])
        assert isinstance(done.exception, MillError)
        assert str(done.exception).startswith("--runner Foo: Beam has DataflowRunner, FlinkRunner, FnApiRunner, ")
    assert not (tmp_path / "dataset").exists()
    for name in (*StandardOptions.KNOWN_RUNNER_NAMES, "flinkrunner", "Prism", "my.package.OwnRunner"):
        assert not [fault for fault in JobOptions(runner=name).conflicts() if "Beam has" in fault], name


def test_options_of_one_kind_of_cluster_go_with_no_other() -> None:
    options = JobOptions(cluster="flink://a", cluster_page="http://b:8090", job_server_jar=Path("c.jar"))
    assert [*options.conflicts()] == ["--cluster-page is for --cluster spark://…"]
    assert [*replace(options, cluster="a").conflicts()] == [
        "--cluster-page is for --cluster spark://…",
        "--job-server-jar is for --cluster flink://… or spark://…",
    ]
    engine = replace(options, cluster="spark://a").engine()
    assert engine.cluster == ClusterAddress("spark", "a", 7077)
    assert (engine.page, engine.job_server_jar) == ("http://b:8090", "c.jar")
    assert not [*replace(options, cluster="spark://a").conflicts()]


def test_a_condition_stands_for_its_table() -> None:
    assert tables_to_redo(["images, canny", "hed"]) == ["images", "canny", "hed"]
    assert tables_to_redo(None) == []
