"""Whose fault an exception is: of the row that was worked on, of the machine, or of the whole job."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from controlmill.schemas.errors import MillError, Refused, error_text
from controlmill.schemas.machine import NO_MORE

CV2_NO_MEMORY = -4
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")  # what oneDNN, MPS and cuBLAS say


class OutOfMemory(Exception):
    """The batch does not fit. It stops the job: a smaller batch would change the bits of every row."""


class DeviceFault(Exception):
    """The device failed, not the row. It stops the job: whatever comes after it in this process fails as well."""


class JobFault(MillError):
    """No fault of a row: every other row and shard would meet it too. It stops the job."""


@dataclass(frozen=True)
class Failure:
    """A row that could not be done: a reason code, and what was raised."""

    reason: str
    error: str


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception makes of its row.

    Raises:
        OutOfMemory: it was no fault of the row but of the memory.
        DeviceFault: it was no fault of the row but of the device.
        JobFault: it was no fault of the row, as whoever raised it knew.
    """
    if isinstance(error, Refused):
        return Failure(error.reason, error.error)
    if isinstance(error, RuntimeError) and NO_MORE in str(error):
        raise error
    if isinstance(error, OutOfMemory | DeviceFault | JobFault):
        raise error
    if is_out_of_memory(error):
        raise OutOfMemory(error_text(error)) from error
    if type(error).__name__ == "AcceleratorError" or (isinstance(error, RuntimeError) and "CUDA error" in str(error)):
        raise DeviceFault(error_text(error)) from error
    if not isinstance(error, Exception) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        raise error
    return Failure("failed", error_text(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the host or of a device ran out. Torch and OpenCV are known by name, without importing them."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or "OutOfMemoryError" in kinds
        or (type(error).__module__ == "cv2" and getattr(error, "code", 0) == CV2_NO_MEMORY)
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY))
    )
