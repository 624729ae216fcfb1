"""What the machines that do a job's work have for its networks: asked there, not where the command is typed."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from controlmill.annotators.runtime.torch_device import device_kind, resolve_device, resolve_dtype
from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.terminal.console import output

from .cluster_address import ClusterAddress
from .messages import Engine, Waits
from .worker import this_worker

T = TypeVar("T")
ASK_SECONDS = 10.0  # without a word while a worker is asked


@dataclass(frozen=True)
class Hardware:
    """What a worker's networks would run on.

    Args:
        device: cpu, cuda, cuda:N or mps.
        dtype: fp32, bf16 or fp16.
        kind: the model of a GPU; else as ``device``.
        fault: why the worker has not what was asked for, or ''.
    """

    device: str = ""
    dtype: str = ""
    kind: str = ""
    fault: str = ""

    @property
    def said(self) -> str:
        """In a message about workers that differ."""
        return self.fault or f"{self.kind}, {self.dtype}"


class Machines(ABC):
    """The machines that do the work of an engine's jobs."""

    @abstractmethod
    def settle(self, device: str, dtype: str) -> tuple[str, str]:
        """The device and dtype that networks are to have: what is ``auto`` is found out, all else is checked.

        Raises:
            MillError: a machine lacks the device, machines differ, or they cannot be asked.
        """

    @abstractmethod
    def ask(self, question: Callable[[], T], unless: str) -> T:
        """What a function returns on one of the machines.

        Args:
            question: picklable, as is its answer.
            unless: the option that makes the question needless, for the message where it cannot be asked.

        Raises:
            MillError: the machines cannot be asked.
        """


class ThisMachine(Machines):
    """The work is done here, or by a runner of Beam's that is not asked."""

    def settle(self, device: str, dtype: str) -> tuple[str, str]:
        """See :meth:`Machines.settle`."""
        found = resolve_device(device)
        return found, resolve_dtype(dtype, found)

    def ask(self, question: Callable[[], T], unless: str) -> T:
        """The answer of this process."""
        return question()


HERE = ThisMachine()


class DaskMachines(Machines):
    """The machines of a Dask cluster, which this process asks itself. All of them must have the same."""

    def __init__(self, address: ClusterAddress, waits: Waits) -> None:
        self._address = address
        self._waits = waits

    def settle(self, device: str, dtype: str) -> tuple[str, str]:
        """See :meth:`Machines.settle`. All workers answer at once, also those that are at work."""
        if device == "cpu" and dtype != "auto":
            return HERE.settle(device, dtype)
        with self._client() as client:
            answers = client.run(functools.partial(hardware, device, dtype), on_error="return")
        return common(answers, self._address)

    def ask(self, question: Callable[[], T], unless: str) -> T:
        """The answer of the first worker that is free; where it takes long, that is said."""
        with self._client() as client:
            asked = client.submit(question, pure=False)
            try:
                answer: T = self._answer(asked, unless)
            except MillError:
                raise
            except Exception as error:
                raise MillError(f"a worker of the cluster at {self._address} failed: {error_text(error)}") from error
            return answer

    def _answer(self, asked: Any, unless: str) -> Any:
        try:
            return asked.result(ASK_SECONDS)
        except TimeoutError:
            output.say(
                f"waiting for the first free worker of the cluster at {self._address}, which finds out {unless} "
                "(nothing waits where that is given)"
            )
            return asked.result()

    def _client(self) -> Any:
        from .dask_client import ready_workers

        return ready_workers(self._address, self._waits)


class UnaskedMachines(Machines):
    """Those of an engine that runs jobs and nothing else: a user says what they have."""

    def __init__(self, title: str) -> None:
        self._title = title

    def settle(self, device: str, dtype: str) -> tuple[str, str]:
        """What was said; ``auto`` is an error."""
        wanted = {"--device cpu (or cuda)": device, "--dtype fp32 (or bf16)": dtype}
        lacking = [flag for flag, value in wanted.items() if value == "auto"]
        if lacking:
            raise self._unasked(" and ".join(lacking))
        return device, resolve_dtype(dtype, device)

    def ask(self, question: Callable[[], T], unless: str) -> T:
        """Always an error."""
        raise self._unasked(unless)

    def _unasked(self, flags: str) -> MillError:
        return MillError(f"what the workers of {self._title} have for networks is not known here: say {flags}")


def machines_of(engine: Engine) -> Machines:
    """The machines that an engine's jobs run on."""
    if engine.cluster is None:
        return HERE
    if engine.cluster.kind == "dask":
        return DaskMachines(engine.cluster, engine.waits)
    return UnaskedMachines(engine.title)


def hardware(device: str, dtype: str) -> Hardware:
    """What this process has for networks, where a device and dtype are asked for."""
    try:
        found = resolve_device(device)
        return Hardware(found, resolve_dtype(dtype, found), device_kind(this_worker().device(found)))
    except Exception as error:  # also of a PyTorch that lacks a library
        return Hardware(fault=str(error) if isinstance(error, MillError) else error_text(error))


def common(answers: Mapping[str, Hardware | BaseException], address: ClusterAddress) -> tuple[str, str]:
    """The device and dtype that all workers, by address, have answered.

    Raises:
        MillError: one lacks what was asked for, they differ, or none is there any more.
    """
    from .dask_client import of_workers

    found = {answer for answer in answers.values() if not isinstance(answer, OSError)}  # of those that are still there
    if not found:
        raise MillError(f"the workers of the cluster at {address} have gone: run the same command again")
    one = next(iter(found))
    if len(found) == 1 and isinstance(one, Hardware) and not one.fault:
        return one.device, one.dtype
    lines = of_workers(answers, lambda answer: [answer.said])
    able = all(isinstance(answer, Hardware) and not answer.fault for answer in found)
    what = "differ in what they have for networks" if able else "cannot all run networks"
    raise MillError(
        f"the workers of the cluster at {address} {what}:"
        + "".join(f"\n  {line}" for line in lines)
        + "\nA table is made on one kind of device, with one --dtype: say which with --device and --dtype, or let "
        "only machines of one kind be in the cluster"
    )
