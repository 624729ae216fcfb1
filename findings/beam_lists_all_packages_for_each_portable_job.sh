#!/usr/bin/env bash
# apache-beam 2.77.0
#
# What: a job that is sent to a portable runner (by job_endpoint) and asks for no packages still runs
#   "python -m pip freeze" and stages its output, submission_environment_dependencies.txt, for whoever reads the
#   workers' logs. It is waited for before the job is sent.
# Seen: without options one file is staged, and pip is run once; with
#   --experiments=disable_logging_submission_environment none, and pip is not run.
# Guessed: without a requirements file, extra packages or a saved main session there is nothing to stage.
#
# It matters where many short jobs are sent: in an environment of 200 packages it took .6 s a job on a free machine.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-beam==2.77.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import subprocess
import sys
from pathlib import Path
from unittest import mock

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.stager import Stager

run = subprocess.check_output


def staged(*options: str) -> tuple[list[str], int]:
    """The files that are staged for a job, and how often pip is run for it."""
    folder = Path(sys.argv[1], f"stage{len(options)}")
    folder.mkdir()
    with mock.patch.object(subprocess, "check_output", side_effect=run) as runs:
        Stager.create_job_resources(PipelineOptions(list(options)), str(folder))
    pips = [call.args[0] for call in runs.call_args_list if "freeze" in call.args[0]]
    return sorted(path.name for path in folder.iterdir()), len(pips)


found = staged(), staged("--experiments=disable_logging_submission_environment")
print(*found, sep="\n")
assert found == ((["submission_environment_dependencies.txt"], 1), ([], 0)), found
PY
