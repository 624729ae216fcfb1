"""Where the map that a ControlNet follows comes from: a photo that is annotated, or a finished map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controlmill.annotators.base import Annotator
from controlmill.annotators.catalogue import Choice, check_licences, parse_condition
from controlmill.annotators.plan import find_weights
from controlmill.evaluation.annotating import PictureAnnotator, load_network
from controlmill.evaluation.fidelity import find_annotator
from controlmill.evaluation.user_pictures import annotated, fitted, given_map
from controlmill.schemas.conditions import CONDITIONS, Condition
from controlmill.schemas.errors import MillError
from controlmill.schemas.maps.transforms import control_image, control_picture
from controlmill.schemas.stored import stored_condition

from .run.record import RunRecord


class Variants:
    """``--variant``: how photos are annotated. A run takes the one of its condition, others take them in order."""

    def __init__(self, choices: Sequence[Choice]):
        self._left = list(choices)

    @classmethod
    def parse(cls, words: Sequence[str], accepted: Sequence[str]) -> Variants:
        """Of the words of a command line.

        Raises:
            MillError: there is no such variant, or its licence is not accepted.
        """
        choices = []
        for word in words:
            try:
                choices.append(parse_condition(word))
            except MillError as error:
                raise MillError(f"--variant {word}: {error}") from error
        check_licences(choices, accepted)
        return cls(choices)

    def take(self, condition: str | None) -> Choice | None:
        """That of a condition, or where none is known the next one; it is not taken again."""
        for i, choice in enumerate(self._left):
            if condition in (None, choice.condition):
                return self._left.pop(i)
        return None

    def check_used(self) -> None:
        """Raise MillError where one was not taken."""
        if self._left:
            choice = self._left[0]
            raise MillError(f"--variant {choice.condition}={choice.variant}: no ControlNet here follows such maps")


@dataclass(frozen=True)
class MapSource:
    """A photo with its annotator, or a finished map.

    Args:
        condition: what the map is; None: not known, a finished map is taken as a picture.
        photo: to annotate, or None.
        control: a finished map, or None.
        annotator: of the photo, with its weights' files by name.
    """

    condition: Condition | None
    photo: Path | None
    control: Path | None
    annotator: tuple[Annotator, dict[str, Path]] | None

    @classmethod
    def find(
        cls,
        name: str,
        record: RunRecord | None,
        photo: Path | None,
        control: Path | None,
        variants: Variants,
        weights: str,
    ) -> MapSource:
        """Of the ControlNet ``name``; what a run's record says of its maps goes for its photos too.

        Raises:
            MillError: the photo cannot be annotated, with what to do.
        """
        condition = stored_condition(record.provenance) if record else None
        choice = variants.take(condition.name if condition else None)
        if choice and not condition:
            condition = CONDITIONS[choice.condition]
        if control is not None:
            return cls(condition, None, control, None)
        folder = weights or (record.config.weights if record else "")
        if choice:
            files = {found.name: Path(found.path) for found in find_weights([choice], folder or None)}
            return cls(condition, photo, None, (choice.build(), files))
        if record is None or condition is None:
            raise MillError(
                f"{name} says nothing of its maps: say how the photo is annotated (--variant canny=100:200), or give a "
                "finished map with --control"
            )
        found = find_annotator(condition, record.provenance, folder)
        if isinstance(found, str):
            raise MillError(f"a photo cannot be annotated for {name} ({found}): give a finished map with --control")
        return cls(condition, photo, None, found)

    def draw(self, size: tuple[int, int], device: str) -> tuple[np.ndarray, np.ndarray]:
        """(control image, float32 (3, H, W) in 0 to 1; the map as a picture, uint8 (H, W, 3)), at (width, height).

        What an annotator draws, such as thresholds, is the same for every seed.
        """
        if self.control is not None and self.condition is None:
            picture = fitted(self.control, size)
            return np.moveaxis(picture, 2, 0).astype(np.float32) / 255, picture
        assert self.condition is not None
        if self.control is not None:
            array = given_map(self.control, self.condition, size)
        else:
            assert self.photo is not None and self.annotator is not None
            annotator, files = self.annotator
            by = PictureAnnotator(annotator, load_network(annotator, files, device))
            array = annotated(fitted(self.photo, size), by, 0)
        return control_image(self.condition, array), control_picture(self.condition, array)
