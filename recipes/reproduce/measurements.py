"""What is measured of a finished training: pictures are sampled for scenes that it never saw, and judged.

Every measurement is a function of a :class:`Subject` that gives values by name; :data:`MEASUREMENTS` lists them. All
scores are better when they are higher. *Agreement* is a picture's score against its own map less the same picture's
against another scene's: chance is 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from controlmill.bases.base import Base
from controlmill.evaluation.convergence import benefit
from controlmill.evaluation.losses import loss_inputs, losses_at_times
from controlmill.evaluation.measures.depth import rmse
from controlmill.evaluation.measures.edges import f1_within
from controlmill.evaluation.measures.labels import miou
from controlmill.evaluation.rows import Sample
from controlmill.evaluation.sampling.sampler import Sampler, WeightedControlNet, round_trip, start_noise
from controlmill.evaluation.sampling.settings import SamplingSettings
from controlmill.schemas.conditions import Condition
from controlmill.schemas.maps.transforms import control_image, control_picture
from recipes.tiny_base.scenes import COLOURS, SHAPES, SIDE, USUAL_COLOURS, Shape, caption_of

from .corpus import Probe
from .judge import Judge
from .prompts import PROMPTS
from .results import Value

BATCH = 16
HALFWAY = 0.5  # between chance and the true pictures through the VAE: a picture that follows its map
SEEN = 30  # pixels of a shape from which its colour is asked for
Pictures = Sequence[np.ndarray]
Values = dict[str, Value]


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


def value_of(values: Sequence[float] | np.ndarray) -> Value:
    """Mean and standard error."""
    known = np.asarray(values, float)
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else 0.0
    return Value(round(float(known.mean()), 5), round(error, 5), len(known))


def colour_at(picture: np.ndarray, where: np.ndarray) -> str:
    """The name of the colour that is nearest to the median over some pixels."""
    median = np.median(picture[where], axis=0)
    return min(COLOURS, key=lambda name: float(((np.asarray(COLOURS[name]) - median) ** 2).sum()))


def _shapes_seen(probe: Probe) -> list[tuple[Shape, np.ndarray]]:
    """Shapes and where they are, without their outermost pixels; kinds of a probe's shapes differ."""
    found = []
    for shape in probe.scene.shapes:
        where = (probe.scene.labels == SHAPES.index(shape.kind) + 1).astype(np.uint8)
        inside = cv2.erode(where, np.ones((3, 3), np.uint8), borderValue=0) > 0
        if inside.sum() >= SEEN:
            found.append((shape, inside))
    return found


def usual_colours(pictures: Pictures, probes: Sequence[Probe]) -> list[float]:
    """For each shape 1 where its colour is the usual one of the shape that the map shows, else 0."""
    return [
        float(colour_at(picture, inside) == USUAL_COLOURS[shape.kind])
        for picture, probe in zip(pictures, probes, strict=True)
        for shape, inside in _shapes_seen(probe)
    ]


def right_kinds(pictures: Pictures, subject: Subject) -> list[float]:
    """For each shape of the map the share of its pixels in which the judge sees that kind of shape."""
    seen = subject.judge.judge(pictures)
    return [
        float((found.labels[inside] == SHAPES.index(shape.kind) + 1).mean())
        for found, probe in zip(seen, subject.probes, strict=True)
        for shape, inside in _shapes_seen(probe)
    ]


def measure_prompts(subject: Subject) -> Values:
    """The four settings of prompts: agreement, followed maps, usual colours, and kinds that the judge sees."""
    found: Values = {}
    for kind in PROMPTS:
        pictures = subject.sample(subject.prompts(kind))
        found[f"{kind}: agreement"] = value_of(subject.agreement(pictures))
        found[f"{kind}: followed"] = value_of(subject.followed(pictures))
        found[f"{kind}: usual colours"] = value_of(usual_colours(pictures, subject.probes))
        found[f"{kind}: kinds"] = value_of(right_kinds(pictures, subject))
    return found


def measure_weighting(subject: Subject) -> Values:
    """Without a prompt: connections weighted by resolution, by guess mode, or not; and how saturated colours are."""
    found: Values = {"true: saturation": value_of(_saturations(subject.true_pictures))}
    for weighting in ("none", "resolution", "guess"):
        pictures = subject.sample(subject.prompts("none"), guidance_weighting=weighting)
        found[f"{weighting}: agreement"] = value_of(subject.agreement(pictures))
        found[f"{weighting}: usual colours"] = value_of(usual_colours(pictures, subject.probes))
        found[f"{weighting}: saturation"] = value_of(_saturations(pictures))
    return found


def _saturations(pictures: Pictures) -> list[float]:
    return [float(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 1].mean() / 255) for picture in pictures]


def measure_half(subject: Subject) -> Values:
    """Control on the first half of the iterations, on the second, and on all of them."""
    prompts, found = subject.prompts("full"), Values()
    for name, (start, end) in {"first": (0.0, 0.5), "second": (0.5, 1.0), "all": (0.0, 1.0)}.items():
        pictures = subject.sample(prompts, control_start=start, control_end=end)
        found[f"{name}: agreement"] = value_of(subject.agreement(pictures))
        found[f"{name}: followed"] = value_of(subject.followed(pictures))
    return found


def measure_masked(subject: Subject) -> Values:
    """The nearest shape is sampled anew in another colour, by a mask around it and a prompt that says so.

    ``outside`` is the largest difference to the picture through the VAE, in levels of 255.
    """
    prompts, masks, colours = [], [], []
    for probe in subject.probes:
        *others, nearest = probe.scene.shapes
        taken = {shape.colour for shape in probe.scene.shapes} | {probe.scene.ground}
        colours.append(next(name for name in COLOURS if name not in taken))
        prompts.append(caption_of([*others, replace(nearest, colour=colours[-1])], probe.scene.ground))
        shape = (probe.scene.labels == SHAPES.index(nearest.kind) + 1).astype(np.uint8)
        masks.append(cv2.dilate(shape, np.ones((7, 7), np.uint8)) > 0)
    given = [probe.scene.image for probe in subject.probes]
    pictures = subject.sample(prompts, pictures=given, masks=masks)
    differences = [
        float(np.abs(picture.astype(int) - true.astype(int))[~mask].max())
        for picture, true, mask in zip(pictures, subject.true_pictures, masks, strict=True)
    ]
    edited = [
        float(colour_at(picture, _shapes_seen(probe)[-1][1]) == colour)
        for picture, probe, colour in zip(pictures, subject.probes, colours, strict=True)
        if _shapes_seen(probe)
    ]
    return {
        "outside": value_of(differences),
        "edited": value_of(edited),
        "agreement": value_of(subject.agreement(pictures)),
    }


def measure_added(subject: Subject) -> Values:
    """Two ControlNets without weights, and each alone: agreement with both maps, with full prompts."""
    assert subject.beside is not None
    networks, prompts, found = [subject.network, subject.beside], subject.prompts("full"), Values()
    names = [network.condition.name for network in networks]
    for title, used in {names[0]: networks[:1], names[1]: networks[1:], "both": networks}.items():
        pictures = subject.sample(prompts, used)
        for name in names:
            found[f"{title}: {name}"] = value_of(subject.agreement(pictures, name))
    return found


def measure_judged(subject: Subject) -> Values:
    """With full prompts, by the condition's own score; ``ceiling`` is that of true pictures through the VAE."""
    pictures, condition = subject.sample(subject.prompts("full")), subject.network.condition.name
    return {
        "score": value_of(subject.scores(pictures, condition)),
        "chance": value_of(subject.by_chance(pictures, condition)),
        "ceiling": value_of(subject.scores(subject.true_pictures, condition)),
        "agreement": value_of(subject.agreement(pictures)),
        "followed": value_of(subject.followed(pictures)),
    }


def measure_benefit(subject: Subject) -> Values:
    """How much better the loss is than without a ControlNet, on rows that were trained on and on others."""
    found: Values = {}
    for name, rows in {"trained on": subject.trained_on, "held out": subject.held_out}.items():
        inputs = loss_inputs(subject.base, rows, 0, BATCH)
        condition = subject.network.condition
        maps = np.stack([control_image(condition, row.maps[condition.table]) for row in rows])
        losses = (
            losses_at_times(subject.base, network, inputs, control, BATCH)
            for network, control in ((subject.network.controlnet, maps), (None, None))
        )
        estimate = benefit(*losses)
        error = estimate.error if len(rows) > 1 else 0.0
        found[name] = Value(round(estimate.mean, 5), round(error, 5), len(rows))
    return found


MEASUREMENTS: Mapping[str, Callable[[Subject], Values]] = {
    "prompts": measure_prompts,
    "weighting": measure_weighting,
    "half": measure_half,
    "masked": measure_masked,
    "added": measure_added,
    "judged": measure_judged,
    "benefit": measure_benefit,
}
