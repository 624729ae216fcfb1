"""Where and how networks run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Placement:
    """Where and how networks run. Resolved once before a job and stored: the bytes of a map may depend on it.

    ``dtype`` is fp32, bf16 or fp16 (autocast); ``threads`` are the threads of one network on a CPU; ``compile`` runs
    networks through torch.compile.
    """

    device: str = "cpu"
    dtype: str = "fp32"
    batch_size: int = 1
    threads: int = 1
    compile: bool = False

    def provenance(self) -> dict[str, Any]:
        """What is stored: not which of a machine's devices; ``compile`` only where it is used, as in older tables."""
        said = {**asdict(self), "device": self.device.split(":")[0]}
        return said if self.compile else {key: value for key, value in said.items() if key != "compile"}
