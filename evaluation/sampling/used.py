"""A ControlNet that pictures are sampled with, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controlmill.bases.configuration import Connection, pinned_controlnet


@dataclass(frozen=True)
class UsedControlNet:
    """A ControlNet that pictures are sampled with.

    Args:
        address: its folder, its ``.safetensors`` file, or its name on the hub.
        name: as it may be published.
        connection: how it joins the base.
        unet: the folder of a denoiser that was trained with it; "": the base's own.
        strength: a factor on what it adds.
    """

    address: str
    name: str
    connection: Connection = "zero"
    unet: str = ""
    strength: float = 1.0

    def pinned(self) -> UsedControlNet:
        """The same at the commit that this process reads, where it is on the hub; the name says it too.

        Raises:
            MillError: it cannot be had.
        """
        address = pinned_controlnet(self.address)
        return self if address == self.address else replace(self, address=address, name=address)
