"""A list of URLs, a third of them hostile, downloaded by a job that is killed again and again.

The number of records can be set: ``CONTROLMILL_CHAOS_RECORDS=300 make test-long``.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import socket
import struct
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.retries import refused_pictures
from controlmill.schemas.views.verify import verify
from tests.helpers import digests, rows, scene
from tests.pipelines.corpora.hostile_server import (
    Answer,
    Handler,
    Server,
    chunked,
    cut,
    in_turn,
    plain,
    redirect,
    serving,
    silent,
    slow_body,
)
from tests.processes import kill_tree, start_command

RECORDS = int(os.environ.get("CONTROLMILL_CHAOS_RECORDS", "5000"))
KILLS = 10
CAP = 2  # megabytes


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    scene(seed, 128, 96).save(file, "JPEG", quality=90)
    return file.getvalue()


def lying_png() -> bytes:
    """A header that says 100,000 x 100,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def tiny() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def hang_up(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Kind:
    """How records of a kind are answered, why they are refused (None: kept), and whether that may heal."""

    answer: Answer
    reason: str | None
    heals: bool = False


PICTURES = [jpeg(seed) for seed in range(40)]
PACKED = gzip.compress(PICTURES[0] + bytes(50_000_000), 1)
HOSTILE = {
    "gone": Kind(plain(404), "http_error"),
    "broken": Kind(plain(500), "http_error", heals=True),
    "busy": Kind(plain(429, Retry_After="0"), "http_error", heals=True),
    "silent": Kind(silent, "timeout", heals=True),
    "slow": Kind(slow_body(PICTURES[0][:500], 5000, 0.3), "timeout", heals=True),
    "cut": Kind(cut(PICTURES[0][:500], 5000), "http_error", heals=True),
    "hung-up": Kind(hang_up, "http_error", heals=True),
    "page": Kind(
        plain(200, b"<html><body>come back later</body></html>", Content_Type="text/html"), "not_an_image", True
    ),
    "half": Kind(plain(200, PICTURES[0][:1000]), "truncated", heals=True),
    "long": Kind(chunked(PICTURES[0], 10_000, bytes(1_000_000), []), "too_many_bytes"),
    "packed": Kind(
        plain(200, gzip.compress(PICTURES[0] + bytes(50_000_000), 1), Content_Encoding="gzip"), "too_many_bytes"
    ),
    "bomb": Kind(plain(200, lying_png()), "too_many_pixels"),
    "tiny": Kind(plain(200, tiny()), "too_small"),
    "noai": Kind(plain(200, PICTURES[0], X_Robots_Tag="noai"), "opted_out"),
    "file": Kind(redirect("file:///etc/passwd"), "refused_address"),
}


def good_answer(number: int) -> Answer:
    """A picture, mostly given at once; or at the second try, elsewhere, or under a wrong name."""
    picture = PICTURES[number % len(PICTURES)]
    whole = plain(200, picture)
    odd = {1: in_turn(plain(503), whole), 2: plain(200, picture, Content_Type="text/html"), 3: in_turn(hang_up, whole)}
    return odd.get(number % 11, whole)


@dataclass(frozen=True)
class Corpus:
    """A list's lines, and what is to become of each."""

    answers: dict[str, Answer]
    lines: list[str]
    kinds: list[str]  # of the lines; "" is a good one

    def expected(self, healed: bool = False) -> Counter[str]:
        """Refusals by reason."""
        reasons = Counter[str]()
        for kind in filter(None, self.kinds):
            if kind in ("loop", "ftp"):
                reasons["too_many_redirects" if kind == "loop" else "refused_address"] += 1
            elif not (healed and HOSTILE[kind].heals):
                reasons[str(HOSTILE[kind].reason)] += 1
        return reasons


def make_corpus(records: int) -> Corpus:
    draw = random.Random(5)
    answers: dict[str, Answer] = {}
    lines, kinds = [], []
    for number in range(records):
        kind = draw.choice([*HOSTILE, "loop", "ftp"]) if number % 3 == 0 else ""
        path = f"/corpus/{number // 100:03d}/{number:05d}{f'-{kind}' if kind else ''}.jpg"
        if kind == "loop":
            answers[path] = redirect(path)
        elif kind != "ftp":
            answers[path] = HOSTILE[kind].answer if kind else good_answer(number)
        lines.append(path if kind != "ftp" else f"ftp://example.org{path}")
        kinds.append(kind)
    return Corpus(answers, lines, kinds)


def options(dataset: Path, records: int) -> list[str]:
    words = ["--resolution", "64", "--min-side", "16", "--max-megabytes", str(CAP), "--allow-private-hosts"]
    words += ["--timeout", "2", "--retries", "2", "--retry-wait", "0.05", "--connections-per-host", "48"]
    return [str(dataset), *words, "--shard-size", str(max(16, records // 12))]


def ingest(urls: Path, words: Sequence[str], log: Path, seconds: float | None = None) -> bool:
    """Run a job to its end, or kill it; whether it came to its end."""
    process = start_command(["ingest", str(urls), *words], log)
    try:
        assert process.wait(seconds) == 0, log.read_text()
    except subprocess.TimeoutExpired:
        kill_tree(process)
        return False
    return True


def made(dataset: Path) -> dict[str, str]:
    """Digests of what a dataset holds."""
    return {name: digest for name, digest in digests(dataset).items() if not name.startswith(("_run", "_local"))}


def counted(dataset: Path) -> tuple[int, int, Counter[str]]:
    """(listed, kept, refusals by reason) in the rows of its tables."""
    refused = Counter(row["reason"] for row in rows(dataset, "rejected"))
    return len(rows(dataset, "sources")), len(rows(dataset, "images")), refused


def heal(server: Server, corpus: Corpus) -> None:
    """From now on what heals is answered with a picture."""
    for number, (line, kind) in enumerate(zip(corpus.lines, corpus.kinds, strict=True)):
        if kind in HOSTILE and HOSTILE[kind].heals:
            server.answers[line] = plain(200, PICTURES[number % len(PICTURES)])


@pytest.mark.long
def test_a_hostile_list_and_kills_lose_nothing(tmp_path: Path) -> None:
    draw: Any = random.Random(7)
    corpus, log, urls = make_corpus(RECORDS), tmp_path / "log", tmp_path / "urls.txt"
    with serving(corpus.answers) as server:
        urls.write_text("".join(f"{server.url if line[0] == '/' else ''}{line}\n" for line in corpus.lines))
        undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
        began = time.monotonic()
        assert ingest(urls, options(undisturbed, RECORDS), log)
        took = time.monotonic() - began
        kills = 0
        while kills < KILLS:
            kills += not ingest(urls, options(killed, RECORDS), log, draw.uniform(0, 2 * took / KILLS))
        assert ingest(urls, options(killed, RECORDS), log)

        expected = corpus.expected()
        assert counted(undisturbed) == (RECORDS, RECORDS - expected.total(), expected)
        assert made(killed) == made(undisturbed)
        assert list(verify(Dataset.open(killed))) == []

        heal(server, corpus)
        words = options(killed, RECORDS)[:1] + options(killed, RECORDS)[5:-2]
        process = start_command(["retry", *words], log)
        assert process.wait() == 0, log.read_text()
        left = corpus.expected(healed=True)
        assert refused_pictures(Dataset.open(killed)) == left
        assert len(rows(killed, "images")) == RECORDS - left.total()
        assert list(verify(Dataset.open(killed))) == []
        print(
            f"{RECORDS} records, {kills} kills; undisturbed {took:.0f} s; refused {dict(expected)}, then {dict(left)}"
        )
