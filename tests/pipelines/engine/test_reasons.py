"""Of what engines say, the line that says why is found: texts of Flink, Spark, Prism, gRPC, Dask and Beam itself."""

from __future__ import annotations

import pytest

from controlmill.pipelines.engine.reasons import advice, reason, reason_in_log, texts_of, without_step

GRAPH_OF_ANOTHER_VERSION = """\
RuntimeError: Pipeline BeamApp-x_0b1c failed in state FAILED: RestClientException: [Internal server error., <Exception on server side:
org.apache.flink.runtime.rest.handler.RestHandlerException: Failed to deserialize JobGraph.
	at org.apache.flink.runtime.rest.handler.job.JobSubmitHandler.lambda$loadJobGraph$2(JobSubmitHandler.java:187)
	at java.base/java.util.concurrent.CompletableFuture$AsyncSupply.run(CompletableFuture.java:1768)
	at java.base/java.lang.Thread.run(Thread.java:840)
Caused by: java.io.InvalidClassException: org.apache.flink.runtime.jobgraph.JobGraph; local class incompatible: stream classdesc serialVersionUID = 1
	at java.base/java.io.ObjectStreamClass.initNonProxy(ObjectStreamClass.java:597)
	at java.base/java.io.ObjectInputStream.readClassDesc(ObjectInputStream.java:1759)
	... 3 more

End of exception on server side>]
"""  # noqa: E501

JOB_SERVER_GONE = """\
grpc._channel._MultiThreadedRendezvous: <_MultiThreadedRendezvous of RPC that terminated with:
	status = StatusCode.UNAVAILABLE
	details = "Stream removed (Socket closed)"
	debug_error_string = "UNKNOWN:Error received from peer ipv4:127.0.0.1:8099 {grpc_status:14}"
>
"""

SPARK = """\
RuntimeError: Pipeline job_5a failed in state FAILED: org.apache.spark.SparkException: Job aborted due to stage failure: Task 1 in stage 0.0 failed 4 times, most recent failure: Lost task 1.3 (TID 7) (node-2 executor 1): java.lang.RuntimeException: Error received from SDK harness for instruction 5
	at org.apache.spark.scheduler.TaskSetManager.handle(TaskSetManager.scala:1)
Driver stacktrace:
	at org.apache.spark.scheduler.DAGScheduler.failJobAndIndependentStages(DAGScheduler.scala:2856)
Caused by: java.io.IOException: No space left on device
	at java.base/java.io.FileOutputStream.writeBytes(Native Method)
"""  # noqa: E501


@pytest.mark.parametrize(
    ("text", "why", "todo"),
    [
        (GRAPH_OF_ANOTHER_VERSION, "Failed to deserialize JobGraph", "the one of the same minor version"),
        (GRAPH_OF_ANOTHER_VERSION, "Caused by: java.io.InvalidClassException", "the job server is not of"),
        (JOB_SERVER_GONE, "gRPC UNAVAILABLE: Stream removed (Socket closed)", "the job server has gone"),
        (SPARK, "Caused by: java.io.IOException: No space left on device", "make room"),
        ("grpc.FutureTimeoutError\n", "grpc.FutureTimeoutError", "nothing answered at the address"),
        (
            "RuntimeError: Pipeline x-1 failed in state FAILED: JobMasterException: TaskManager with id 127.0.0.1:4321 "
            "is no longer reachable.\n",
            "JobMasterException: TaskManager with id 127.0.0.1:4321 is no longer reachable.",
            "restart-strategy",
        ),
        (
            "RuntimeError: Pipeline x-1 failed in state FAILED: StatusRuntimeException: CANCELLED: client cancelled\n",
            "StatusRuntimeException: CANCELLED: client cancelled",
            "a worker's Python process has gone",
        ),
        (
            "RuntimeError: Pipeline x-1 failed in state FAILED: TimeoutException: Timeout has occurred: 300000 ms\n",
            "TimeoutException: Timeout has occurred: 300000 ms",
            "too few free task slots",
        ),
        (
            "RuntimeError: Pipeline job-001[job] failed in state FAILED: bundle inst004 stage-002 failed:SDK worker "
            "disconnected: job-001[job]_go, 6 active instructions\n",
            "bundle inst004 stage-002 failed:SDK worker disconnected",
            "was it killed",
        ),
        (
            "RuntimeError: Pipeline x-1 failed in state FAILED: IllegalStateException: Process died with exit code 1\n",
            "IllegalStateException: Process died with exit code 1",
            "is ControlMill installed there",
        ),
        (
            "RuntimeError: Pipeline x-1 failed in state FAILED: java.io.IOException: error=2, No such file or "
            "directory\n",
            "IOException: error=2, No such file or directory",
            "has no controlmill-worker where this one has it",
        ),
        (
            "RuntimeError: Pipeline x-1 failed in state FAILED: java.lang.IllegalStateException: Cannot call methods "
            "on a stopped SparkContext.\nThis stopped SparkContext was created at:\n",
            "java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext.",
            "the page of the master",
        ),
        ("ValueError: a list of what is wrong\n", "ValueError: a list of what is wrong", ""),
    ],
)
def test_why_and_what_to_do(text: str, why: str, todo: str) -> None:
    found = reason(text)
    assert why in found
    assert todo in advice(found)
    assert len(found.splitlines()) <= 3
    assert "\tat " not in found
    assert "Pipeline " not in found


def test_a_refused_option_is_found_behind_the_usage() -> None:
    log = (
        "usage: controlmill [-h] [--runner RUNNER]\n                   [--direct_num_workers N]\n"
        "controlmill: error: argument --direct_num_workers: invalid int value: 'two'\n"
        'Traceback (most recent call last):\n  File "child.py", line 114, in _do\n    graphs.run(job, shards)\n'
        "SystemExit: 2\n"
    )
    assert reason_in_log(log) == "argument --direct_num_workers: invalid int value: 'two'"


def test_the_last_error_of_a_process_that_died_is_found() -> None:
    log = (
        "OSError: an old one\nTraceback (most recent call last):\n"
        '  File "x.py", line 1, in f\n    raise KeyError\nValueError: the last\n'
    )
    assert reason_in_log(log) == "ValueError: the last"
    assert reason_in_log(f"{log}Fatal Python error: Segmentation fault\n\nThread 0x1:\n").startswith("Fatal Python")
    assert reason_in_log("one\ntwo\nthree\nfour") == "two\nthree\nfour"
    assert reason_in_log("") == ""


def test_what_an_error_was_raised_from_is_told() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError as error:
        assert reason(texts_of(error)) == "ValueError: outer\nCaused by: KeyError: 'inner'"


def test_beams_own_step_is_no_part_of_a_message() -> None:
    assert without_step("the disk is full [while running 'RunShard-ptransform-9']") == "the disk is full"
