"""The batch that is fastest on a device."""

from __future__ import annotations

import pytest

from controlmill.pipelines.batching import fastest_batch


def test_the_batch_grows_while_it_pays_and_fits() -> None:
    class Device:
        """Takes a second a call and a tenth for each picture; holds ``memory`` of them."""

        def __init__(self, memory: int) -> None:
            self.now, self.memory = 0.0, memory

        def forward(self, size: int) -> None:
            if size > self.memory:
                raise MemoryError
            self.now += 1 + 0.1 * max(size, 16)

    for memory, best in ((100, 64), (20, 16), (1, 1)):
        device = Device(memory)
        assert fastest_batch(device.forward, lambda device=device: device.now) == best
    with pytest.raises(MemoryError):
        fastest_batch(Device(0).forward)
