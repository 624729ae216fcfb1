"""The measurements of a finished training: each is a function of a :class:`Subject`, and gives values by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np

from controlmill.evaluation.convergence import benefit
from controlmill.evaluation.losses import loss_inputs, losses_at_times
from controlmill.schemas.maps.transforms import control_image
from recipes.tiny_base.scenes import COLOURS, SHAPES, USUAL_COLOURS, Shape, caption_of

from .corpus import Probe
from .prompts import PROMPTS
from .results import Value
from .subject import BATCH, Pictures, Subject

SEEN = 30  # pixels of a shape from which its colour is asked for
Values = dict[str, Value]


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
