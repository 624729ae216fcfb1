"""The corpus, as a dataset, and the scenes that are sampled for measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controlmill.annotators.canny import Canny, RandomCanny
from controlmill.schemas.conditions import Condition
from controlmill.schemas.errors import MillError
from controlmill.schemas.maps.transforms import control_image
from recipes.tiny_base.scenes import Scene, draw_scene, write_corpus

from .commands import controlmill

CORPUS, PROBES = 1, 3  # the tiny base was trained on scenes of corpus 0, the judge on 2
USUAL = 0.8  # of the pictures in which shapes have their usual colours


def build(folder: Path, scenes: int, base: str) -> None:
    """Draw the corpus, build the dataset ``folder/dataset``, encode it. What is done already is left.

    Raises:
        MillError: a command failed, or the corpus that is there has another number of scenes.
    """
    corpus, dataset = folder / "corpus", folder / "dataset"
    drawn = corpus / "drawn"
    if not drawn.exists():
        write_corpus(corpus, scenes, CORPUS, usual=USUAL)
        drawn.touch()
    there = len(list((corpus / "photos").glob("*.png")))
    if there != scenes:
        raise MillError(f"{corpus} has {there:,} scenes, not {scenes:,}: choose another folder")
    words = ["build", corpus / "photos", dataset, "--resolution", 64, "--conditions", "canny", "--batch-size", 16]
    controlmill([*words, "--conditions-from", corpus / "maps"], folder / "build.log")
    controlmill(["encode", dataset, "--base", base, "--text", "--device", "cpu"], folder / "encode.log")


@dataclass(frozen=True)
class Probe:
    """A scene that no training saw and whose shapes have their usual colours, its maps, and its edges' thresholds."""

    number: int
    scene: Scene
    maps: Mapping[str, np.ndarray]
    thresholds: Mapping[str, int]

    def edges_of(self, picture: np.ndarray) -> np.ndarray:
        """Edges of a picture, uint8 (H, W, 3), with the thresholds that were drawn for this scene."""
        found = Canny().annotate(picture, None, self.thresholds).map
        assert isinstance(found, np.ndarray)
        return found

    def control(self, condition: Condition) -> np.ndarray:
        """The map as a ControlNet sees it, float32 (3, H, W) in 0 to 1; ``condition`` is the dataset's."""
        return control_image(condition, self.maps[condition.name])


def probes(count: int) -> list[Probe]:
    """The first so many."""
    found = []
    for number in range(count):
        scene = draw_scene(PROBES, number, usual=1.0)
        thresholds = RandomCanny().draw(np.random.default_rng((PROBES, number)))
        edges = Canny().annotate(scene.image, None, thresholds).map
        assert isinstance(edges, np.ndarray)
        maps = {"canny": edges, "segmentation": scene.labels, "depth": scene.depth}
        found.append(Probe(number, scene, maps, thresholds))
    return found
