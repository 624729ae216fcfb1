#!/usr/bin/env bash
# apache-beam 2.77.0, dask and distributed 2026.8.0
#
# What: on Beam's DaskRunner the partitions of Create are those of the whole graph. FlatMap stays in its partition and
#   Reshuffle is the identity, so that a Create of one element which FlatMap unfolds is one task on one worker, whatever
#   --dask_npartitions says.
# Seen: Create([8]) | FlatMap | Reshuffle | Map with 8 partitions asked for: one process of four does all eight
#   elements; Create(range(8)) | Map with the same option: all four work.
# Guessed: Reshuffle deals elements out to all workers, as it does on Flink, Spark, Dataflow and the embedded runner; and
#   8 partitions are 8 tasks.
#
# It matters for jobs that send numbers or file patterns and unfold them on workers: a cluster works with one of many.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-beam==2.77.0 "dask[bag]==2026.8.0" distributed==2026.8.0
cat >"$folder/one.py" <<'PY'
import logging
import os
import sys
import tempfile
import time

import apache_beam as beam
import distributed
from apache_beam.options.pipeline_options import PipelineOptions


def numbers(count):
    return list(range(count))


def note(number, folder):
    time.sleep(0.3)  # longer than it takes to hand a task to another worker
    open(os.path.join(folder, f"{number}-{os.getpid()}"), "w").close()


def processes(address, source):
    with tempfile.TemporaryDirectory() as folder:
        words = [f"--dask_client_address={address}", "--dask_npartitions=8"]
        runner = "--runner=apache_beam.runners.dask.dask_runner.DaskRunner"
        pipeline = beam.Pipeline(options=PipelineOptions([runner, *words]))
        _ = pipeline | source | beam.Map(note, folder)
        result = pipeline.run()
        result.wait_until_finish()
        result.client.close()
        done = os.listdir(folder)
        assert len(done) == 8, done
        return len({name.partition("-")[2] for name in done})


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    with distributed.LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
        address = cluster.scheduler_address
        one = beam.Create([8]) | "Unfold" >> beam.FlatMap(numbers) | beam.Reshuffle()
        unfolded = processes(address, one)
        listed = processes(address, beam.Create(range(8)))
    print("one element, unfolded and reshuffled:", unfolded, "process; eight elements:", listed)
    assert unfolded == 1 and listed > 1
PY
"$folder/venv/bin/python" "$folder/one.py"
