"""What a worker finds where it is, asked before a job: it sends plain values back."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from controlmill.annotators.runtime.torch_device import devices
from controlmill.annotators.runtime.weights import Found, WeightsFile, find, on_this_machine
from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.fingerprint import sha256_bytes
from controlmill.schemas.machine import processors

from ..corpora.corpus import Corpus, Source


@dataclass(frozen=True)
class Question:
    """What workers are to look at.

    Args:
        storage: where the dataset is, or will be.
        mark: a file that the console has put there, by its path in the storage's file system.
        corpus: where pictures are read.
        sources: some of its pictures.
        sums: the sha256 of each, as the console read it.
        largest: bytes of a picture at most.
        weights: files of weights, as the console found them; None where it did not.
        folder: of weights.
        devices: whether to look for GPUs, which takes a second and 200 MB in the worker for its life.
    """

    storage: Storage | None = None
    mark: str = ""
    corpus: Corpus | None = None
    sources: tuple[Source, ...] = ()
    sums: tuple[str, ...] = ()
    largest: int = 0
    weights: tuple[tuple[WeightsFile, Found | None], ...] = ()
    folder: str | None = None
    devices: bool = False


async def look(question: Question) -> dict[str, Any]:
    """Look, beside the worker's other work."""
    return await asyncio.to_thread(_look, question)


def answer_of(mark: str, host: str, pid: int) -> str:
    """The file by which a worker answers a mark."""
    return f"{mark}-{host}-{pid}"


def _look(question: Question) -> dict[str, Any]:
    import psutil

    memory, host = psutil.virtual_memory(), socket.gethostname()
    found: dict[str, Any] = {
        "host": host,
        "pid": os.getpid(),
        "clock": time.time(),
        "cores": processors(),
        "memory": memory.total,
        "memory_free": memory.available,
        "scratch": tempfile.gettempdir(),
        "scratch_free": shutil.disk_usage(tempfile.gettempdir()).free,
        "faults": [],
    }
    if question.devices:
        found["devices"] = list(devices())
    faults = found["faults"]
    if question.storage:
        faults += _dataset(question.storage, question.mark, host)
        if question.storage.local:
            folder = os.path.dirname(question.mark)
            found["dataset_free"] = shutil.disk_usage(folder).free if os.path.isdir(folder) else None
    if question.corpus:
        faults += _pictures(question, question.corpus)
    for file, here in question.weights:
        faults += _weights(file, here, question.folder)
    return found


def _dataset(storage: Storage, mark: str, host: str) -> list[str]:
    where = os.path.dirname(mark)
    try:
        storage.fs.invalidate_cache()
        if not storage.fs.exists(mark):
            return [f"{where} is not the folder that this machine sees: it must be shared, under the same path"]
        storage.fs.pipe_file(answer_of(mark, host, os.getpid()), b"here")
    except Exception as error:  # of any kind of storage
        return [f"{where} cannot be written to: {error_text(error)}"]
    return []


def _pictures(question: Question, corpus: Corpus) -> list[str]:
    for source, wanted in zip(question.sources, question.sums, strict=True):
        try:
            found = read(corpus, source, question.largest)
        except Exception as error:  # of any kind of corpus
            return [f"{source.source} of {corpus.address} cannot be read: {error_text(error)}"]
        if sha256_bytes(found) != wanted:
            return [f"{source.source} of {corpus.address} is another picture there"]
    return []


def read(corpus: Corpus, source: Source, largest: int) -> bytes:
    """The bytes of a picture, by whichever way its kind of corpus is read."""
    record = corpus.begin(source, largest).result() if corpus.most_at_once else corpus.read(source, largest)
    try:
        return record.data
    finally:
        record.release()


def _weights(file: WeightsFile, here: Found | None, folder: str | None) -> list[str]:
    try:
        if here:
            on_this_machine(file, here, download=False)  # as a job looks for them
        elif not find([file], folder, download=False)[0]:
            return [f"weights {file.name} are neither here nor there (the Hub gives them to a job, if it answers)"]
    except Exception as error:
        return [str(error) if isinstance(error, MillError) else f"weights {file.name}: {error_text(error)}"]
    return []
