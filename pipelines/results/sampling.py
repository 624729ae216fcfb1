"""What samples pictures in a job: a base with ControlNets, loaded once per process, and how provenance describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from controlmill.annotators.runtime.placement import Placement
from controlmill.bases.configuration import weights_digests
from controlmill.bases.registry import read_facts
from controlmill.evaluation.sampling.settings import SamplingSettings
from controlmill.evaluation.sampling.used import UsedControlNet
from controlmill.schemas.errors import MillError
from controlmill.schemas.fingerprint import fingerprint, package_versions
from controlmill.schemas.views.lookup import Place

from ..engine.loading import loading
from ..engine.worker import this_worker

VERSION = 1
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "opencv")


@dataclass(frozen=True)
class Sampling:
    """Picklable: what it needs is loaded where it works.

    Args:
        base: a base, as a user names it, and ``base_name`` as it may be published.
        controlnets: none for the base alone.
        settings: of the sampler.
        place: where it runs; its batch is always full.
    """

    base: str
    base_name: str
    controlnets: tuple[UsedControlNet, ...]
    settings: SamplingSettings
    place: Placement

    def check(self) -> None:
        """Raise MillError where the settings are none to sample with."""
        try:
            self.settings.check()
        except ValueError as error:
            raise MillError(f"sampling: {error}") from error

    def described(self) -> dict[str, Any]:
        """As :class:`result_records.SamplerRecord`, from the files that are here."""
        return {
            "version": VERSION,
            "base": self.base_name,
            "base_sha256": _base_digest(self.base),
            "controlnets": [
                {"name": one.name, "sha256": controlnet_digest(one), "strength": one.strength}
                for one in self.controlnets
            ],
            "settings": asdict(self.settings),
            "packages": package_versions(*PACKAGES),
            "placement": self.place.provenance(),
        }

    def prepare(self) -> Any:
        """Load everything, once per process.

        Raises:
            JobFault: it cannot be loaded.
        """
        worker = this_worker()
        with loading("what samples the pictures"):
            key = ("sampling", self, _base_digest(self.base), *map(controlnet_digest, self.controlnets))
            return worker.once(key, lambda: self._load(worker.prepare(self.place)), stays=True)

    def sample(
        self, prompts: Sequence[str], controls: np.ndarray, places: Sequence[Place], samples: Sequence[int]
    ) -> list[np.ndarray]:
        """A full batch of pictures of one size.

        Args:
            prompts: of each.
            controls: maps, float32 (N, 3, H, W) in 0 to 1.
            places: the rows, and ``samples`` which of their pictures each is: together they draw the noise.

        Returns:
            uint8 (H, W, 3) each.
        """
        import torch

        from controlmill.evaluation.sampling.sampler import start_noise

        sampler = self.prepare()
        height, width = controls.shape[2:]
        noise = torch.cat(
            [
                start_noise(sampler.base, [place], self.settings.seed, height, width, sample)
                for place, sample in zip(places, samples, strict=True)
            ]
        )
        pictures: list[np.ndarray] = sampler.sample(prompts, [controls] * len(self.controlnets), noise)
        return pictures

    def round_trip(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """A full batch of pictures, uint8 (H, W, 3), through the base's VAE and back."""
        from controlmill.evaluation.sampling.sampler import round_trip

        return round_trip(self.prepare().base, pictures, self.place.batch_size)

    def _load(self, place: Placement) -> Any:
        from controlmill.evaluation.sampling.sampler import load_sampler

        return load_sampler(self.base, self.controlnets, self.settings, place.device, place.dtype, place.batch_size)


def _base_digest(base: str) -> str:
    return this_worker().once(("base digest", base), lambda: read_facts(base).fingerprint())


def controlnet_digest(controlnet: UsedControlNet) -> str:
    """sha256 of a ControlNet's files of weights, and of the denoiser's that was trained with it.

    Raises:
        MillError: they cannot be had.
    """
    digests = [
        digest for folder in (controlnet.address, controlnet.unet) if folder for digest in weights_digests(folder)
    ]
    return digests[0] if len(digests) == 1 else fingerprint(digests)
