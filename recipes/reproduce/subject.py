"""What is measured of a finished training: it samples pictures for scenes that it never saw, and scores them.

All scores are better when they are higher. *Agreement* is a picture's score against its own map less the same picture's
against another scene's: chance is 0.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from controlmill.bases.base import Base
from controlmill.evaluation.measures.depth import rmse
from controlmill.evaluation.measures.edges import f1_within
from controlmill.evaluation.measures.labels import miou
from controlmill.evaluation.rows import Sample
from controlmill.evaluation.sampling.sampler import Sampler, WeightedControlNet, round_trip, start_noise
from controlmill.evaluation.sampling.settings import SamplingSettings
from controlmill.schemas.conditions import Condition
from controlmill.schemas.maps.transforms import control_picture
from recipes.tiny_base.scenes import SIDE

from .corpus import Probe
from .judge import Judge
from .prompts import PROMPTS

BATCH = 16
HALFWAY = 0.5  # between chance and the true pictures through the VAE: a picture that follows its map
Pictures = Sequence[np.ndarray]


@dataclass(frozen=True)
class Network:
    """A trained ControlNet, and the condition as its dataset stores it."""

    condition: Condition
    controlnet: Any


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Args:
        base: with the decoder that was trained, if it was.
        network: the training's.
        beside: another training's, or None.
        probes: the scenes.
        judge: that sees labels and depth.
        trained_on, held_out: rows of the dataset.
        steps: of the sampler.
    """

    base: Base
    network: Network
    beside: Network | None
    probes: Sequence[Probe]
    judge: Judge
    trained_on: Sequence[Sample]
    held_out: Sequence[Sample]
    steps: int

    def sample(
        self,
        prompts: Sequence[str],
        networks: Sequence[Network] = (),
        pictures: Pictures | None = None,
        masks: Pictures | None = None,
        **settings: Any,
    ) -> Pictures:
        """A picture for each probe, uint8 (H, W, 3), with the training's network where none is named."""
        networks = networks or [self.network]
        controls = [np.stack([probe.control(network.condition) for probe in self.probes]) for network in networks]
        sampler = Sampler(
            self.base,
            [WeightedControlNet(network.controlnet) for network in networks],
            SamplingSettings(steps=self.steps, **settings),
            min(BATCH, len(self.probes)),
        )
        noise = start_noise(self.base, [(0, probe.number) for probe in self.probes], 0, SIDE, SIDE)
        return sampler.sample(prompts, controls, noise, pictures, masks)

    def shown(self, count: int) -> dict[str, Pictures]:
        """The first probes: true pictures, maps, and what is sampled with each setting of prompts, by name."""
        few = replace(self, probes=self.probes[:count])
        condition = self.network.condition
        maps = [control_picture(condition, probe.maps[condition.name]) for probe in few.probes]
        sampled = {kind: few.sample(few.prompts(kind)) for kind in PROMPTS}
        return {"true": [probe.scene.image for probe in few.probes], "map": maps, **sampled}

    def prompts(self, kind: str) -> list[str]:
        """One for each probe."""
        return [PROMPTS[kind](probe.scene) for probe in self.probes]

    def scores(self, pictures: Pictures, condition: str, of: Sequence[Probe] | None = None) -> np.ndarray:
        """How well pictures agree with the maps of probes, their own or ``of`` others: float64 (N,), 0 to 1.

        Edges: F1 within a pixel. Labels: mean IoU of what the judge sees. Depth: 1 − RMSE / 255 of what it sees.
        """
        probes = of or self.probes
        if condition == "canny":
            pairs = zip(pictures, probes, strict=True)
            return np.array([f1_within(probe.edges_of(picture), probe.maps["canny"]) for picture, probe in pairs])
        seen = self.judge.judge(pictures)
        if condition == "segmentation":
            return np.array([miou(found.labels, p.scene.labels) for found, p in zip(seen, probes, strict=True)])
        return np.array([1 - rmse(found.depth, p.scene.depth) / 255 for found, p in zip(seen, probes, strict=True)])

    def by_chance(self, pictures: Pictures, condition: str) -> np.ndarray:
        """Scores against the maps of other probes."""
        return self.scores(pictures, condition, [*self.probes[1:], self.probes[0]])

    def agreement(self, pictures: Pictures, condition: str = "") -> np.ndarray:
        """Scores less those by chance, float64 (N,)."""
        condition = condition or self.network.condition.name
        return self.scores(pictures, condition) - self.by_chance(pictures, condition)

    @functools.cached_property
    def true_pictures(self) -> Pictures:
        """Of the probes, through the VAE and back: what sampling could give at best."""
        return round_trip(self.base, [probe.scene.image for probe in self.probes], min(BATCH, len(self.probes)))

    def followed(self, pictures: Pictures) -> np.ndarray:
        """Which pictures follow their maps, 0 or 1 (N,): at least half way from chance to the true pictures."""
        condition = self.network.condition.name
        chance = self.by_chance(pictures, condition).mean()
        best = self.scores(self.true_pictures, condition).mean()
        share: np.ndarray = (self.scores(pictures, condition) - chance) >= HALFWAY * (best - chance)
        return share.astype(float)
