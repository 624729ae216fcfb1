"""What an engine said when it failed, in a few lines: why, and what to do about it.

Engines fail in stacks of Java and of gRPC, of which one or two lines say something.
"""

from __future__ import annotations

import re
import traceback
from contextlib import suppress
from pathlib import Path

FRAME = re.compile(r"\s*(at [\w.$/<>@ -]+\(.*|\.\.\. \d+ (more|common frames omitted).*)")
STATEMENT = re.compile(
    r"(?P<cause>Caused by: )?(?P<kind>(?:[A-Za-z_][\w$]*\.)*[\w$]*(?:Error|Exception|Timeout))(?:: (?P<text>.*)|:?$)"
)
PIPELINE = re.compile(r"^(?:RuntimeError: )?Pipeline \S+ failed in state \w+: ")
STEP = re.compile(r" \[while running '[^']*'\]$")
RPC_STATUS = re.compile(r"status = StatusCode\.(\w+)")
RPC_DETAILS = re.compile(r'details = "(.*)"')
BAD_OPTION = re.compile(r"^\S+: error: (.*)")
FATAL = re.compile(r"^Fatal Python error: .*")
LAST_LINES = 3  # are shown where none says why
LONGEST_LINE = 500
LONGEST_TEXT = 100_000  # of an error; what it was raised from is left out then
TRACEBACK = "Traceback (most recent call last):"

ADVICE = {  # what engines say, and what to do about it; the first that fits
    r"TaskManager with id .* no longer reachable": "a TaskManager has gone: start another one; with a restart-strategy "
    "in Flink's configuration jobs outlive that",
    r"NoResourceAvailable|Timeout has occurred: \d+ ms": "the cluster had too few free task slots for too long: end "
    "other jobs, or add TaskManagers",
    r"JobGraph|InvalidClassException|AbstractMethodError|NoSuchMethodError": "the job server is not of the cluster's "
    "version: take the one of the same minor version (1.19 is not 1.20)",
    r"client cancelled|SDK worker disconnected|SDK harness .*disconnect": "a worker's Python process has gone: was it "
    "killed, for want of memory?",
    r"UNAVAILABLE|failed to connect to all addresses": "the job server has gone",
    r"FutureTimeoutError": "nothing answered at the address of the job server",
    r"docker": "the runner would start its workers in Docker: choose another way with --beam-option environment_type",
    r"Cannot run program|IOException: error=2,": "a machine of the cluster has no controlmill-worker where this one "
    "has it: install ControlMill there in the same place",
    r"Process died with exit code": "a machine of the cluster could not start a worker: is ControlMill installed "
    "there, with its packages?",
    r"stopped SparkContext|removed our application": "Spark could not start its part of the job on its workers: their "
    "logs, and the page of the master, say why",
    r"masters are unresponsive": "Spark's master does not understand the job server: is it of another version?",
    r"No space left on device|ENOSPC": "a disk is full: make room there",
}


def texts_of(error: BaseException) -> str:
    """An error in its own words, with what it was raised from, and without tracebacks."""
    texts = ["".join(traceback.format_exception_only(error))]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return texts[0] if cause is None or len(texts[0]) > LONGEST_TEXT else f"{texts[0]}Caused by: {texts_of(cause)}"


def reason_in_log(log: str) -> str:
    """The lines of all that a process said that say why it ended: a refused option, or else the last error."""
    lines = log.splitlines()
    for pattern in (BAD_OPTION, FATAL):
        found = [match for line in lines if (match := pattern.match(line))]
        if found:
            return _short(found[-1][found[-1].re.groups])
    return reason(log.rpartition(TRACEBACK)[2])


def reason(text: str) -> str:
    """The lines of an error's text that say why; without stacks.

    That is what was raised, what that says was raised elsewhere, and the last ``Caused by``, as far as they are there.
    """
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not FRAME.fullmatch(line)]
    called = RPC_STATUS.search(text), RPC_DETAILS.search(text)
    if all(called):
        return _short(f"gRPC {called[0][1]}: {called[1][1]}")  # type: ignore[index]
    said = [(match, line) for line in map(_bare, lines) if (match := STATEMENT.match(line))]
    causes = [line for match, line in said if match["cause"]]
    others = [line for match, line in said if not match["cause"]]
    shown = list(dict.fromkeys([*others[:1], *others[1:2], *causes[-1:]]))
    return "\n".join(map(_short, shown or map(_bare, lines[-LAST_LINES:])))


def last_lines(log: Path, count: int) -> str:
    """The end of a log file; '' where it cannot be read."""
    with suppress(OSError):
        return "\n".join(log.read_text("utf-8", "replace").strip().splitlines()[-count:])
    return ""


def advice(reason: str) -> str:
    """What to do about a reason, where that is known, or ''."""
    return next((say for pattern, say in ADVICE.items() if re.search(pattern, reason)), "")


def without_step(text: str) -> str:
    """An error's text without what Beam puts behind it: the name of its own step."""
    return STEP.sub("", text)


def _bare(line: str) -> str:
    return STEP.sub("", PIPELINE.sub("", line.strip()))


def _short(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " …"
