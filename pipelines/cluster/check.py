"""Whether every worker of a cluster can do a job: looked at before it is given one."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.plan import files_of
from controlmill.annotators.runtime.weights import find
from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.fingerprint import sha256_bytes
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.terminal.printing import counted

from ..corpora.kinds import absolute, open_corpus
from ..engine.cluster_address import ClusterAddress
from ..engine.dask_client import check_scheduler, connected, known_workers
from ..engine.messages import Waits
from ..engine.versions import version_faults, versions
from .looking import Question, answer_of, look, read

GIGABYTE = 2**30
LEAST_FREE = GIGABYTE
MOST_SKEW = 30.0  # seconds between the clocks of two machines: a run folder that has no owner is old after 60
PICTURES = 3
MANY = 8  # pictures of the listing to try, of which some may be refused


@dataclass
class Checked:
    """What was found: the workers' answers, and the faults of hosts (host → fault → workers that have it)."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, host: str, fault: str) -> None:
        """One worker's fault."""
        of_host = self.faults.setdefault(host, {})
        of_host[fault] = of_host.get(fault, 0) + 1


def check(
    address: ClusterAddress,
    dataset: str | None,
    photos: str | None,
    conditions: str,
    weights: str | None,
    waits: Waits,
) -> Checked:
    """Have every worker look at the dataset's folder, at some pictures, at weights, and at its machine.

    Raises:
        MillError: the scheduler does not answer, or has other versions; or this machine cannot read them itself.
    """
    question = _about_weights(_about_pictures(Question(), photos), conditions, weights)
    with connected(address, waits) as client:
        check_scheduler(client, address)
        hosts = {worker: of["host"] for worker, of in known_workers(client).items()}
        if not hosts:
            raise MillError(f"the cluster at {address} has no workers")
        checked = Checked()
        for worker, found in client.run(versions, on_error="return").items():
            for fault in _failed(found) or version_faults(found):
                checked.add(hosts.get(worker, worker), fault)
        if checked.faults:  # they might not understand the question
            return checked
        with _marked(question, dataset) as asked:
            first = {host: worker for worker, host in reversed(hosts.items())}
            others = [worker for worker in hosts if worker not in first.values()]
            sent = time.time()
            answers = client.run(look, replace(asked, devices=True), workers=list(first.values()), on_error="return")
            if others:
                answers |= client.run(look, asked, workers=others, on_error="return")
            _take(checked, answers, hosts, sent)
            _compare_dataset(checked, asked)
    return checked


def _take(checked: Checked, answers: Mapping[str, Any], hosts: Mapping[str, str], sent: float) -> None:
    now = time.time()
    for worker, found in answers.items():
        failed = _failed(found)
        for fault in failed or found["faults"]:
            checked.add(hosts[worker], fault)
        if failed:
            continue
        checked.answers.append({"address": hosts[worker], **found})
        if not sent - MOST_SKEW < found["clock"] < now + MOST_SKEW:
            checked.add(hosts[worker], f"its clock is {abs(found['clock'] - now):.0f} s away from this machine's")
        for what in ("dataset", "scratch"):
            free = found.get(f"{what}_free")
            if free is not None and free < LEAST_FREE:
                place = (
                    "the dataset's disk" if what == "dataset" else f"the disk of temporary files ({found['scratch']})"
                )
                checked.add(hosts[worker], f"{place} has {free / GIGABYTE:.1f} GB left")
    kinds = {tuple(found["devices"]): found["host"] for found in checked.answers if "devices" in found}
    if len(kinds) > 1:
        several = "; ".join(f"{host}: {', '.join(kind)}" for kind, host in kinds.items())
        checked.add("all", f"machines have different devices, and a table's networks run on one kind ({several})")


def _failed(found: Any) -> list[str]:
    return [f"cannot be asked: {error_text(found)}"] if isinstance(found, BaseException) else []


def _about_pictures(question: Question, photos: str | None) -> Question:
    """Some pictures that this machine can read."""
    if photos is None:
        return question
    corpus, largest = open_corpus(absolute(photos)), Limits().max_bytes
    sources, sums, fault = [], [], "there are none"
    for source in itertools.islice(corpus.list(), MANY):
        try:
            sums.append(sha256_bytes(read(corpus, source, largest)))
            sources.append(source)
        except Exception as error:  # one that is refused
            fault = error_text(error)
        if len(sources) == PICTURES:
            break
    if not sources:
        raise MillError(f"no picture of {photos} can be read on this machine: {fault}")
    return replace(question, corpus=corpus, sources=tuple(sources), sums=tuple(sums), largest=largest)


def _about_weights(question: Question, conditions: str, folder: str | None) -> Question:
    files = files_of(parse_conditions(conditions)) if conditions else {}
    here = {found.name: found for found in find(files, folder, download=False)[0]}
    return replace(question, weights=tuple((file, here.get(file.name)) for file in files), folder=folder)


@contextmanager
def _marked(question: Question, dataset: str | None) -> Iterator[Question]:
    """With a file where the dataset is, or will be: in the nearest folder that is there. It is removed again."""
    if dataset is None:
        yield question
        return
    storage = open_storage(dataset)
    place = storage.path()
    while storage.local and not os.path.isdir(place):
        place = os.path.dirname(place)
    mark = f"{place}/.controlmill-check-{uuid.uuid4().hex[:12]}"
    try:
        storage.fs.pipe_file(mark, b"here")
    except Exception as error:  # of any kind of storage
        raise MillError(f"{place} cannot be written to on this machine: {error_text(error)}") from error
    try:
        yield replace(question, storage=storage, mark=mark)
    finally:
        _remove(storage, [mark])


def _compare_dataset(checked: Checked, asked: Question) -> None:
    """What the workers wrote is seen here."""
    if not asked.storage:
        return
    asked.storage.fs.invalidate_cache()
    for found in checked.answers:
        written = answer_of(asked.mark, found["host"], found["pid"])
        if not found["faults"] and not asked.storage.fs.exists(written):
            checked.add(
                found["address"], f"what it writes to {os.path.dirname(asked.mark)} is not seen on this machine"
            )
        _remove(asked.storage, [written])


def _remove(storage: Storage, files: Sequence[str]) -> None:
    for file in files:
        with suppress(OSError):
            storage.fs.rm_file(file)


def lines_of(address: ClusterAddress, checked: Checked) -> Iterator[str]:
    """For people."""
    hosts: dict[str, list[dict[str, Any]]] = {}
    for found in checked.answers:
        hosts.setdefault(found["address"], []).append(found)
    for host, several in sorted(hosts.items()):
        first = next((found for found in several if "devices" in found), several[0])
        free = [
            f"{first[key] / GIGABYTE:.0f} GB free {where}"
            for key, where in (("dataset_free", "for the dataset"), ("scratch_free", "for temporary files"))
            if first.get(key) is not None
        ]
        memory = f"{first['memory_free'] / GIGABYTE:.1f} of {first['memory'] / GIGABYTE:.1f} GB of memory free"
        devices = ", ".join(first.get("devices", ()))
        known = f"{first['cores']} cores, {memory}, {devices}; {', '.join(free)}"
        yield f"{host} ({first['host']}): {counted(len(several), 'worker')}, {known}"
    for host, faults in sorted(checked.faults.items()):
        for fault, count in faults.items():
            yield f"{host} ({counted(count, 'worker')}): {fault}" if host != "all" else fault
    if not checked.faults:
        yield f"every worker of {address} can do it"
