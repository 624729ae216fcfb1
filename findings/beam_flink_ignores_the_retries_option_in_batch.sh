#!/usr/bin/env bash
# apache-beam 2.77.0 with beam-runners-flink-1.19 2.62.0 (Flink 1.19), Java 17
#
# What: the job server lists the pipeline option number_of_execution_retries ("the number of times that failed tasks are
#   re-executed"), and Python's PortableRunner passes it on without a word. For a batch pipeline it changes nothing: the
#   first failure of a task ends the job. What retries is restart-strategy in Flink's own configuration.
# Seen: a step that fails when it is first run: with --number_of_execution_retries=3 the job FAILED after 1 run; with
#   restart-strategy.type: fixed-delay in the configuration, and without the option, it is DONE after 2.
# Guessed: an option that the runner declares, and that nobody refuses, is followed, or refused for a batch pipeline.
#
# It matters for whoever wants a job to outlive a worker: it must be set where the cluster is configured.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder" # Beam leaves files there
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-beam==2.77.0
cat >"$folder/pom.xml" <<'XML'
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.beam</groupId><artifactId>beam-runners-flink-1.19</artifactId><version>2.62.0</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-jdk14</artifactId><version>1.7.30</version></dependency>
</dependencies></project>
XML
(cd "$folder" && mvn -B -q dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$folder/jars")
cat >"$folder/job.py" <<'PY'
import pathlib
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

endpoint, runs, *options = sys.argv[1:]


def fail_once(value: int) -> int:
    with open(runs, "a") as file:
        file.write("run\n")
    if pathlib.Path(runs).read_text().count("run") == 1:
        raise ValueError("the first run fails")
    return value


pipeline = beam.Pipeline(
    options=PipelineOptions(
        ["--runner=PortableRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK", *options]
    )
)
_ = pipeline | beam.Create([1]) | beam.Map(fail_once)
try:
    state = pipeline.run().wait_until_finish()
except RuntimeError as error:
    state = str(error).partition(" failed in state ")[2].partition(":")[0]
print(state, "after", pathlib.Path(runs).read_text().count("run"), "runs")
PY
job() { # name, options of the job server, options of the job
  java --add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.util=ALL-UNNAMED \
    --add-opens=java.base/java.nio=ALL-UNNAMED -cp "$folder/jars/*" org.apache.beam.runners.flink.FlinkJobServerDriver \
    --flink-master='[local]' --job-host=127.0.0.1 --job-port=0 --artifact-port=0 --expansion-port=0 \
    --artifacts-dir="$folder/artifacts" $2 >"$folder/$1.log" 2>&1 &
  server=$!
  until grep -q 'JobService started on' "$folder/$1.log"; do
    kill -0 "$server"
    sleep 0.5
  done
  endpoint=$(sed -n 's/.*JobService started on [^ ]*:\([0-9]*\).*/127.0.0.1:\1/p' "$folder/$1.log")
  timeout 180 "$folder/venv/bin/python" "$folder/job.py" "$endpoint" "$folder/$1.runs" $3 2>"$folder/$1.err"
  kill "$server"
  wait "$server" || true
  server=
}
expect() { echo "$1: $2"; [ "$2" = "$3" ]; }
mkdir "$folder/conf"
printf 'restart-strategy:\n  type: fixed-delay\n  fixed-delay:\n    attempts: 3\n    delay: 1 s\n' >"$folder/conf/config.yaml"
expect "neither" "$(job neither '' '')" "FAILED after 1 runs"
expect "--number_of_execution_retries=3" "$(job option '' --number_of_execution_retries=3)" "FAILED after 1 runs"
expect "restart-strategy of Flink" "$(job strategy "--flink-conf-dir=$folder/conf" '')" "DONE after 2 runs"
