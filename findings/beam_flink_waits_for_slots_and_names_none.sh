#!/usr/bin/env bash
# apache-beam 2.77.0 with beam-runners-flink-1.19 2.62.0 on Flink 1.19.3, Java 17
#
# What: a batch pipeline with a Reshuffle whose parallelism is larger than the slots of a Flink session cluster is taken.
#   The job is RUNNING, but not one of its steps is, until slot.request.timeout (300 s unless it is set) has passed; then
#   it fails with a TimeoutException. Flink's own error says "slot", but Beam's Python SDK is told the innermost cause
#   alone. Without the Reshuffle the same job is DONE: its halves take the slot in turn.
# Seen: one TaskManager with one slot, slot.request.timeout 15 s, --parallelism=2: RUNNING for 15 s, the step is not run
#   once, then "TimeoutException: Timeout has occurred: 15000 ms". With --parallelism=1, or without Reshuffle, DONE.
# Guessed: a job that does not fit is refused when it is sent, or runs with the slots there are, or its error says what
#   was lacking.
#
# It matters for whoever sets the parallelism: ask the cluster's REST service for its free slots first.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder" # Beam leaves files there
mkdir "$folder/pids" "$folder/conf" "$folder/tmp"
trap 'for pid in $(cat "$folder"/pids/* 2>/dev/null); do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-beam==2.77.0
"$folder/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps -d "$folder" apache-flink-libraries==1.19.3
tar xzf "$folder"/apache*flink*libraries-1.19.3.tar.gz -C "$folder"
flink=$(echo "$folder"/apache*flink*libraries-1.19.3/deps)
cat >"$folder/pom.xml" <<'XML'
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.beam</groupId><artifactId>beam-runners-flink-1.19</artifactId><version>2.62.0</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-jdk14</artifactId><version>1.7.30</version></dependency>
</dependencies></project>
XML
(cd "$folder" && mvn -B -q dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$folder/jars")
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
rest=$(free_port)
cat >"$folder/conf/config.yaml" <<YAML
jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: $(free_port)
jobmanager.bind-host: 127.0.0.1
jobmanager.memory.process.size: 768m
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: $rest
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.numberOfTaskSlots: 1
taskmanager.memory.process.size: 1024m
slot.request.timeout: 15000
io.tmp.dirs: $folder/tmp
YAML
opens=(--add-exports=java.base/sun.net.util=ALL-UNNAMED --add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED
  --add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.net=ALL-UNNAMED
  --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/java.util=ALL-UNNAMED
  --add-opens=java.base/java.util.concurrent=ALL-UNNAMED --add-opens=java.base/java.lang.reflect=ALL-UNNAMED)
part() { # name, main class, what its memory settings are called
  local said
  said=$(java "${opens[@]}" -cp "$flink/bin/bash-java-utils.jar:$flink/lib/*" org.apache.flink.runtime.util.bash.BashJavaUtils \
    "$3" --configDir "$folder/conf" 2>/dev/null | sed -n 's/^BASH_JAVA_UTILS_EXEC_RESULT://p')
  # shellcheck disable=SC2046
  java $(sed -n 1p <<<"$said") "${opens[@]}" -cp "$flink/lib/*" "org.apache.flink.runtime.$2" --configDir "$folder/conf" \
    $(sed -n 2p <<<"$said") >"$folder/$1.log" 2>&1 &
  echo $! >"$folder/pids/$1"
}
part jobmanager entrypoint.StandaloneSessionClusterEntrypoint GET_JM_RESOURCE_PARAMS
part taskmanager taskexecutor.TaskManagerRunner GET_TM_RESOURCE_PARAMS
for _ in $(seq 240); do
  curl --silent --noproxy '*' "http://127.0.0.1:$rest/overview" 2>/dev/null | grep -q '"slots-available":1' && break
  sleep 0.5
done
java "${opens[@]}" -cp "$folder/jars/*" org.apache.beam.runners.flink.FlinkJobServerDriver --flink-master="127.0.0.1:$rest" \
  --job-host=127.0.0.1 --job-port=0 --artifact-port=0 --expansion-port=0 --artifacts-dir="$folder/artifacts" \
  >"$folder/server.log" 2>&1 &
echo $! >"$folder/pids/server"
until grep -q 'JobService started on' "$folder/server.log"; do
  kill -0 "$(cat "$folder/pids/server")"
  sleep 0.5
done
endpoint=$(sed -n 's/.*JobService started on [^ ]*:\([0-9]*\).*/127.0.0.1:\1/p' "$folder/server.log")
cat >"$folder/job.py" <<'PY'
import pathlib
import sys
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

endpoint, runs, parallelism, shuffle = sys.argv[1:]


def note(value: int) -> None:
    pathlib.Path(runs).touch()


options = [f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK", f"--parallelism={parallelism}"]
pipeline = beam.Pipeline(options=PipelineOptions(["--runner=PortableRunner", *options]))
numbers = pipeline | beam.Create([1])
if shuffle == "with":
    numbers |= beam.Reshuffle()
_ = numbers | beam.Map(note)
result = pipeline.run()
began, running = time.monotonic(), 0.0
while result.state not in ("DONE", "FAILED", "CANCELLED") and time.monotonic() - began < 120:
    if result.state == "RUNNING":
        running = time.monotonic() - began
    time.sleep(0.5)
try:
    print(result.wait_until_finish(), "| the step was run:", pathlib.Path(runs).exists())
except RuntimeError as error:
    said = str(error).partition(" failed in state ")[2]
    print(f"{said} | RUNNING for 10 s or more: {running >= 10} | the step was run: {pathlib.Path(runs).exists()}")
PY
job() { timeout 180 "$folder/venv/bin/python" "$folder/job.py" "$endpoint" "$folder/runs$1$2" "$1" "$2" 2>"$folder/job.err"; }
expect() { echo "$1: $2"; [[ "$2" == $3 ]]; }
expect "parallelism 1 with Reshuffle" "$(job 1 with)" "DONE | the step was run: True"
expect "parallelism 2 without Reshuffle" "$(job 2 without)" "DONE | the step was run: True"
expect "parallelism 2 with Reshuffle" "$(job 2 with)" \
  "FAILED: *TimeoutException: Timeout has occurred: 15000 ms | RUNNING for 10 s or more: True | the step was run: False"
