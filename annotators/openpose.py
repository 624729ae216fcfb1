"""Human poses by OpenPose (Cao et al. 2017), drawn as ControlNet 1.1's skeletons, the key points stored beside the map.

Source: controlnet-aux 0.0.10 ``open_pose`` (ControlNet ``annotator/openpose``), whose networks and drawing are used as
they are; ``pose_decode.py`` replaces what lies between. **Licence**: academic or non-profit non-commercial research
only (CMU), code and weights; hence the ``openpose`` licence gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from controlmill.schemas.errors import MillError

from .base import Annotation, Annotator, Network
from .pose_decode import STRIDE, find_people
from .runtime.inference import compiled, ready
from .runtime.network import TorchNetwork
from .runtime.placement import Placement
from .runtime.torch_device import autocast, finite, load_state_dict, no_init_weights
from .runtime.upstream import controlnet_aux
from .runtime.weights import WeightsFile, annotators_file
from .skeletons import COLUMNS, draw_skeletons, flat, skeleton_columns

LICENCE = "CMU OpenPose, non-commercial"
BODY = annotators_file(
    "body_pose_model.pth", "25a948c16078b0f08e236bda51a385d855ef4c153598947c28c0d47ed94bb746", 209.3, LICENCE
)
FACE = annotators_file(
    "facenet.pth", "8beb52e548624ffcc4aed12af7aee7dcbfaeea420c75609fee999fe7add79d43", 153.7, LICENCE
)
HAND = annotators_file(
    "hand_pose_model.pth", "b76b00d1750901abd07b9f9d8c98cc3385b8fe834a26d4b4f0aad439e75fc600", 147.3, LICENCE
)
INPUT_HEIGHT = 184  # half of the 368 that the network was trained at, whatever the picture's size
PADDING = 128


class OpenPoseBody(TorchNetwork):
    """BGR in -0.5 to 0.5 in, heat maps and part affinities out; upstream's ``PoseResult`` for each person after it."""

    name: ClassVar[str] = "openpose"
    weights: ClassVar[tuple[WeightsFile, ...]] = (BODY,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "controlnet-aux", "opencv", "numpy")

    def build(self, files: Mapping[str, Path]) -> Any:
        """Upstream's network of bodies."""
        return load_body_part("bodypose_model", files[BODY.name])

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, h, w): BGR, 184 pixels high, padded to multiples of 8 with grey."""
        height, width = inner_size(image)
        enlarged = height + width >= image.shape[0] + image.shape[1]
        pixels = cv2.resize(
            image[:, :, ::-1].copy(),
            (width, height),
            interpolation=cv2.INTER_LANCZOS4 if enlarged else cv2.INTER_AREA,
        )
        pad = ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0))
        return np.pad(pixels, pad, constant_values=PADDING).transpose(2, 0, 1).astype(np.float32) / 256 - 0.5

    def outputs(self, output: Any) -> list[Any]:
        """For each picture: affinities, float32 (38, h / 8, w / 8), and heat, float32 (19, h / 8, w / 8)."""
        affinity, heat = (part.float().cpu().numpy() for part in output)
        return list(zip(affinity, heat, strict=True))

    def postprocess(self, raw: Any, image: np.ndarray) -> list[Any]:
        """People as upstream's ``PoseResult``: coordinates from 0 to 1, None for a part that is not seen."""
        pose = controlnet_aux("open_pose")
        height, width = image.shape[:2]
        return [
            pose.PoseResult(
                body._replace(keypoints=[scaled(point, width, height) for point in body.keypoints]), *[None] * 3
            )
            for body in self.find_bodies(raw, image)
        ]

    def find_bodies(self, raw: tuple[np.ndarray, np.ndarray], image: np.ndarray) -> list[Any]:
        """People as upstream's ``BodyResult``, in pixels."""
        affinity, heat = raw
        found = find_people(finite(heat), finite(affinity), inner_size(image), image.shape[:2])
        bodies: list[Any] = controlnet_aux("open_pose").Body.format_body_result(*found)
        return bodies


class OpenPoseFace(OpenPoseBody):
    """Bodies, and 70 points of each face that their eyes and ears locate. Faces go one by one, at 384x384."""

    name: ClassVar[str] = "openpose-face"
    weights: ClassVar[tuple[WeightsFile, ...]] = (BODY, FACE)
    with_hands: ClassVar[bool] = False

    def __init__(self, files: Mapping[str, Path], place: Placement):
        super().__init__(files, place)
        pose = controlnet_aux("open_pose")
        face = pose.Face.__new__(pose.Face)  # its __init__ would load the weights without map_location
        face.model = ready(load_body_part("FaceNet", files[FACE.name]), place)
        face.model.forward = compiled(face.model.forward, place, self.name)
        hand = None
        if self.with_hands:
            hand = pose.Hand.__new__(pose.Hand)
            hand.model = ready(load_body_part("handpose_model", files[HAND.name]), place)
        self._detector = pose.OpenposeDetector(None, hand, face)

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """The picture itself: faces and hands are cut out of it once bodies are known."""
        return image

    def forward(self, batch: Sequence[np.ndarray]) -> list[Any]:
        """For each picture, people as upstream's ``PoseResult``."""
        import torch

        pose = controlnet_aux("open_pose")
        body_inputs = [super(OpenPoseFace, self).preprocess(image) for image in batch]
        people: list[Any] = []
        for i, (raw, image) in enumerate(zip(super().forward(body_inputs), batch, strict=True)):
            if i and image is batch[i - 1]:  # padding: hands are too slow to look for again
                people.append(people[-1])
                continue
            height, width = image.shape[:2]
            bgr = image[:, :, ::-1].copy()
            results = []
            for body in self.find_bodies(raw, image):
                with torch.inference_mode(), autocast(self._place):
                    hands = self._detector.detect_hands(body, bgr) if self.with_hands else (None, None)
                    face = self._detector.detect_face(body, bgr)
                points = [scaled(point, width, height) for point in body.keypoints]
                results.append(pose.PoseResult(body._replace(keypoints=points), *hands, face))
            people.append(results)
        return people

    def postprocess(self, raw: list[Any], image: np.ndarray) -> list[Any]:
        """People, as they are."""
        return raw


class OpenPoseHands(OpenPoseFace):
    """Bodies, faces and 21 points of each hand; hands go one by one, at four scales, and take most of the time.

    Hands are never compiled: each has a size of its own.
    """

    name: ClassVar[str] = "openpose-hands"
    weights: ClassVar[tuple[WeightsFile, ...]] = (BODY, FACE, HAND)
    packages: ClassVar[tuple[str, ...]] = (*OpenPoseBody.packages, "scipy", "scikit-image")
    with_hands: ClassVar[bool] = True

    def __init__(self, files: Mapping[str, Path], place: Placement):
        try:
            import matplotlib  # noqa: F401  (upstream draws hands with its colours)
        except ModuleNotFoundError as error:
            raise MillError("pose=hands needs matplotlib: pip install matplotlib") from error
        super().__init__(files, place)


def load_body_part(network: str, path: Path) -> Any:
    """One of upstream's three networks; its outputs are float32 under autocast too, as upstream's numpy code needs."""
    import torch

    state, face = load_state_dict(path), network == "FaceNet"
    with no_init_weights():
        model = getattr(controlnet_aux("open_pose.face" if face else "open_pose.model"), network)()
    model.load_state_dict(state if face else controlnet_aux("open_pose.util").transfer(model, state))

    def to_float32(module: Any, inputs: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return output.float()
        return type(output)(item.float() for item in output)

    model.register_forward_hook(to_float32)
    return model


def inner_size(image: np.ndarray) -> tuple[int, int]:
    """(height, width) of the network's input without its padding."""
    scale = INPUT_HEIGHT / image.shape[0]
    height, width = (max(1, int(side * scale)) for side in image.shape[:2])
    return height, width


def scaled(point: Any, width: int, height: int) -> Any:
    """A key point with coordinates from 0 to 1."""
    return point and point._replace(x=point.x / float(width), y=point.y / float(height))


@dataclass(frozen=True)
class BodyPose(Annotator):
    """Skeletons on black. A picture without people is a valid black map: ``n_people`` is 0.

    The columns are those of :func:`skeletons.skeleton_columns`; scores are heats.
    """

    condition: ClassVar[str] = "pose"
    variant: ClassVar[str] = "body"
    network: ClassVar[type[Network] | None] = OpenPoseBody
    columns: ClassVar[Mapping[str, str]] = COLUMNS
    draws: ClassVar[tuple[str, ...]] = ("body",)

    def annotate(self, image: np.ndarray, output: list[Any], drawn: Mapping[str, Any]) -> Annotation:
        """rgb map."""
        height, width = image.shape[:2]
        bodies = [person.body.keypoints for person in output]
        if self.draws == ("body",):
            drawing = draw_skeletons(bodies, height, width)
        else:
            wanted = {f"draw_{what}": what in self.draws for what in ("body", "hand", "face")}
            drawing = controlnet_aux("open_pose").draw_poses(output, height, width, **wanted)
        columns = skeleton_columns(bodies, height, width)
        for what, found in (
            ("face", [person.face for person in output]),
            ("hand", [hand for person in output for hand in (person.left_hand, person.right_hand)]),
        ):
            if what in self.draws:
                columns[f"{what}_keypoints"] = [
                    value for points in found for value in flat(points or (), width, height)
                ]
        return Annotation(drawing, columns)


@dataclass(frozen=True)
class FacePose(BodyPose):
    """Skeletons and faces; ``face_keypoints`` are x and y in pixels, of those that were found, person by person."""

    variant: ClassVar[str] = "face"
    network: ClassVar[type[Network] | None] = OpenPoseFace
    columns: ClassVar[Mapping[str, str]] = {**BodyPose.columns, "face_keypoints": "list<float32>"}
    draws: ClassVar[tuple[str, ...]] = ("body", "face")


@dataclass(frozen=True)
class HandPose(BodyPose):
    """Skeletons, faces and hands; ``hand_keypoints`` are 21 times x and y of each hand found, left before right."""

    variant: ClassVar[str] = "hands"
    network: ClassVar[type[Network] | None] = OpenPoseHands
    columns: ClassVar[Mapping[str, str]] = {**FacePose.columns, "hand_keypoints": "list<float32>"}
    draws: ClassVar[tuple[str, ...]] = ("body", "face", "hand")
