"""Run one part within its time and merge what there is of all parts: `python -m benchmarks.gpu PART`.

The part runs in a process of its own, which is killed when the time is up; what it has measured by then is kept.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu import report, wheels
from benchmarks.gpu.cases import Setting, run_cases

MINUTES = 8.0
LAST_CASE_SECONDS = 45.0  # before the end: no case is begun any more
CLEANING_SECONDS = 15.0  # before the end: the part is killed


def main() -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("part", choices=wheels.PARTS)
    parser.add_argument("--folder", type=Path, default=Path("gpu"), help="for the results of all parts")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu with --toy")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="after which the part has ended")
    parser.add_argument("--toy", action="store_true", help="tiny networks, to try the code; its figures mean nothing")
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)  # given to the process that measures
    arguments = parser.parse_args()
    if arguments.scratch:
        measure(arguments.part, arguments.folder, arguments.minutes * 60, _setting(arguments))
        return
    ended = time.monotonic() + arguments.minutes * 60 - CLEANING_SECONDS
    if fault := what_is_wrong(arguments.part, arguments.device):
        sys.exit(fault)
    if absent := wheels.missing_of_some(arguments.part):
        print(f"{arguments.part}: without {', '.join(absent)} some cases do not run", flush=True)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (arguments.folder / f"{arguments.part}.json").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="controlmill-gpu-") as scratch:
        command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:], "--scratch", scratch]
        try:
            subprocess.run(command, check=False, timeout=max(1.0, ended - time.monotonic()), env=environment())
        except subprocess.TimeoutExpired:
            print(f"{arguments.part}: the time is up, what was left is listed as not run")
    print(report.write(arguments.folder, list(wheels.PARTS)))


def environment() -> dict[str, str]:
    """This process's, where every process finds the checkout's packages: ControlMill need not be installed."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}


def what_is_wrong(part: str, device: str) -> str:
    """Why a part cannot run here, in one line; empty where it can."""
    if wheels.is_absent("torch"):
        return f"{part}: there is no PyTorch here"
    if absent := wheels.missing(part):
        return f"{part}: these packages are missing: {', '.join(absent)}"
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        return f"{part}: there is no NVIDIA GPU here that PyTorch {torch.__version__} can use"
    return ""


def measure(part: str, folder: Path, seconds: float, setting: Setting) -> None:
    """Run a part's cases and write PART.json."""
    cases = importlib.import_module(f"benchmarks.gpu.{part}").cases(setting)
    run_cases(cases, folder / f"{part}.json", seconds - LAST_CASE_SECONDS, machine(setting))


def machine(setting: Setting) -> dict[str, Any]:
    """What was measured on."""
    import torch

    name = torch.cuda.get_device_name(setting.device) if setting.on_gpu else platform.processor() or setting.device
    return {
        "device": f"{name}{' (toy)' if setting.toy else ''}",
        "torch": f"PyTorch {torch.__version__}",
        "python": f"Python {platform.python_version()}",
        "day": time.strftime("%Y-%m-%d"),
    }


def _setting(arguments: argparse.Namespace) -> Setting:
    return Setting(arguments.device, arguments.scratch, arguments.toy)


if __name__ == "__main__":
    main()
