"""ADE20K classes (Zhou et al. 2017) by UperNet-ConvNeXt, OneFormer, SegFormer or Mask2Former, all of transformers.

Ids 0 to 149 follow SceneParse150, wall to flag. They equal what ``post_process_semantic_segmentation`` gives for the
picture's size; but the 150 score maps (157 MB for 512x512) never exist at once: they are enlarged one by one, on the
device, and only the best class so far is kept, which is also three times faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.maps.label_files import named_set

from .base import Annotation, Annotator, Network
from .runtime.network import TorchNetwork
from .runtime.placement import Placement
from .runtime.transformers_model import load_model, model_files
from .runtime.weights import WeightsFile
from .upernet_head import head_scores

INPUT_SIZE = (512, 512)
# "<start> the task is semantic <end>" in CLIP's byte-pair codes, then zeros up to 77 (OneFormerProcessor)
ONEFORMER_TASK = (49406, 518, 10549, 533, 29119, 1550, 49407)
ONEFORMER_TASK_LENGTH = 77
MASK2FORMER_SIZE = (384, 384)  # of masks, whatever the picture's shape: transformers' post-processing


class SegmentationNetwork(TorchNetwork):
    """RGB normalised as for ImageNet in, low scores of 150 classes out; uint8 (H, W) class ids after postprocessing."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "transformers", "numpy")
    model_class: ClassVar[str]
    processor_class: ClassVar[str] = "SegformerImageProcessor"
    sizes: ClassVar[tuple[tuple[int, int], ...]] = ()  # that scores pass through on their way to the picture's
    processor: ClassVar[Mapping[str, Any]] = {"size": {"height": INPUT_SIZE[0], "width": INPUT_SIZE[1]}}
    settings: ClassVar[Mapping[str, Any]] = {}
    exact: ClassVar[bool] = True

    def __init__(self, files: Mapping[str, Path], place: Placement):
        import transformers

        super().__init__(files, place)
        # most of these models are prepared the same way; OneFormer's processor asks the hub for files when built
        self._processor = getattr(transformers, self.processor_class)(**self.processor)

    def build(self, files: Mapping[str, Path]) -> Any:
        """The model of transformers."""
        import transformers

        return load_model(getattr(transformers, self.model_class), self.weights, files, **self.settings)

    def entry(self) -> Callable[..., Any]:
        """The scores alone."""
        return self.scores

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, h, w)."""
        pixels: np.ndarray = self._processor(image, return_tensors="np")["pixel_values"][0]
        return pixels

    def outputs(self, output: Any) -> list[Any]:
        """For each picture a float32 tensor (150, h / 4, w / 4), on a GPU of CUDA's if it came from there."""
        scores = output.float()
        # PyTorch on MPS dies where two threads use it (pytorch/pytorch#197805), and postprocess runs in several
        return list(scores.cpu() if self._place.device == "mps" else scores)

    def scores(self, pixels: Any) -> Any:
        """Scores of a batch, as the network gives them."""
        return self._network(pixel_values=pixels).logits

    def postprocess(self, raw: Any, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W)."""
        return best_classes(raw, (*self.sizes, image.shape[:2]))


def best_classes(scores: Any, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """The class with the highest score at each pixel, after bilinear resizing to each of ``sizes`` in turn.

    Args:
        scores: float32 tensor (C, h, w); C is 256 at most.
        sizes: (height, width) pairs, the last one is that of the result.

    Raises:
        ValueError: scores are not finite.
    """
    import torch
    from torch.nn.functional import interpolate

    with torch.inference_mode():
        if not torch.isfinite(scores).all():
            raise ValueError("the network returned values that are not finite; --dtype fp32 may help")
        highest = torch.full(sizes[-1], -torch.inf, device=scores.device)
        best = torch.zeros(sizes[-1], dtype=torch.uint8, device=scores.device)
        for number in range(len(scores)):
            score = scores[None, None, number]
            for size in sizes:
                if tuple(score.shape[2:]) != tuple(size):
                    score = interpolate(score, size=size, mode="bilinear", align_corners=False)
            best.masked_fill_(score[0, 0] > highest, number)
            torch.maximum(score[0, 0], highest, out=highest)
        ids: np.ndarray = best.cpu().numpy()
    return ids


class UperNet(SegmentationNetwork):
    """UperNet with a ConvNeXt-small backbone (Liu et al. 2022); 512x512 in, whatever the picture's shape."""

    name: ClassVar[str] = "upernet"
    version: ClassVar[int] = 2
    weights: ClassVar[tuple[WeightsFile, ...]] = model_files(
        "openmmlab/upernet-convnext-small",
        "550b68d291f9a7e4874065c6eec0676b2ba821e6",
        "MIT",
        ("pytorch_model.bin", 327.7),
    )
    model_class: ClassVar[str] = "UperNetForSemanticSegmentation"
    sizes: ClassVar[tuple[tuple[int, int], ...]] = (INPUT_SIZE,)

    def scores(self, pixels: Any) -> Any:
        """The head's scores, before the model would enlarge them to 512x512; the auxiliary head is not run."""
        features = self._network.backbone.forward_with_filtered_kwargs(pixels).feature_maps
        return head_scores(self._network.decode_head, features)


class SegFormer(SegmentationNetwork):
    """SegFormer-B0 (Xie et al. 2021); 512x512 in, whatever the picture's shape."""

    name: ClassVar[str] = "segformer"
    version: ClassVar[int] = 2
    weights: ClassVar[tuple[WeightsFile, ...]] = model_files(
        "nvidia/segformer-b0-finetuned-ade-512-512",
        "489d5cd81a0b59fab9b7ea758d3548ebe99677da",
        "NVIDIA Source Code License for SegFormer, non-commercial",
        ("model.safetensors", 15.0),
        model="6ae39addd01de6b1b8bde2cf677d43a5cd733424b8d186de3f95d1c51fee23f9",
    )
    model_class: ClassVar[str] = "SegformerForSemanticSegmentation"


class OneFormer(SegmentationNetwork):
    """OneFormer with a Swin-tiny backbone (Jain et al. 2023), asked for its semantic task; shorter side 512 in."""

    name: ClassVar[str] = "oneformer"
    version: ClassVar[int] = 2
    weights: ClassVar[tuple[WeightsFile, ...]] = model_files(
        "shi-labs/oneformer_ade20k_swin_tiny",
        "05f2812b1eccf9909b3897777450f8d68148cafc",
        "MIT",
        ("pytorch_model.bin", 203.4),
        config="091cbc7c980128ae63b2a15d882923f326f85926ef163adad00c24bd90228896",
        model="909b07dbf4129c2bbb8df4498e35dcd46f305e3ec45329d3ff6d4f0360de27f3",
    )
    model_class: ClassVar[str] = "OneFormerForUniversalSegmentation"
    processor: ClassVar[Mapping[str, Any]] = {
        "size": {"shortest_edge": 512, "longest_edge": 2048},
        "default_to_square": False,
    }
    settings: ClassVar[Mapping[str, Any]] = {"is_training": False}

    def scores(self, pixels: Any) -> Any:
        """Queries' masks weighted with their classes, the null class left out."""
        import torch

        task = torch.zeros((len(pixels), ONEFORMER_TASK_LENGTH), dtype=torch.int64, device=pixels.device)
        task[:, : len(ONEFORMER_TASK)] = torch.tensor(ONEFORMER_TASK, device=pixels.device)
        output = self._network(pixel_values=pixels, task_inputs=task)
        classes = output.class_queries_logits.float().softmax(dim=-1)[..., :-1]
        return torch.einsum("bqc, bqhw -> bchw", classes, output.masks_queries_logits.float().sigmoid())


class OneFormerLarge(OneFormer):
    """OneFormer with a Swin-large backbone; shorter side 640 in, as its authors test it."""

    name: ClassVar[str] = "oneformer-large"
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[WeightsFile, ...]] = model_files(
        "shi-labs/oneformer_ade20k_swin_large",
        "30e6825f8e4f36e346c4dddf90bdcb076c87999c",
        "MIT",
        ("pytorch_model.bin", 880.0),
    )
    processor: ClassVar[Mapping[str, Any]] = {
        "size": {"shortest_edge": 640, "longest_edge": 2560},
        "default_to_square": False,
    }


class Mask2Former(SegmentationNetwork):
    """Mask2Former with a Swin-large backbone (Cheng et al. 2022); shorter side 640 in, sides multiples of 32.

    640 is what the authors, and ControlNet++, test at.
    """

    name: ClassVar[str] = "mask2former"
    weights: ClassVar[tuple[WeightsFile, ...]] = model_files(
        "facebook/mask2former-swin-large-ade-semantic",
        "aa25c92404a40599614215e76514c79b427c7527",
        "other (the model card's word); the code's is MIT",
        ("model.safetensors", 866.0),
    )
    model_class: ClassVar[str] = "Mask2FormerForUniversalSegmentation"
    processor_class: ClassVar[str] = "Mask2FormerImageProcessor"
    processor: ClassVar[Mapping[str, Any]] = {"size": {"shortest_edge": 640, "longest_edge": 2560}}

    def scores(self, pixels: Any) -> Any:
        """Queries' masks at 384x384 weighted with their classes, the null class left out."""
        import torch

        output = self._network(pixel_values=pixels)
        classes = output.class_queries_logits.float().softmax(dim=-1)[..., :-1]
        masks = torch.nn.functional.interpolate(
            output.masks_queries_logits.float(), size=MASK2FORMER_SIZE, mode="bilinear", align_corners=False
        )
        return torch.einsum("bqc, bqhw -> bchw", classes, masks.sigmoid())


@dataclass(frozen=True)
class UperNetClasses(Annotator):
    """Class ids, 0 to 149; ``classes`` are those present, in rising order."""

    condition: ClassVar[str] = "segmentation"
    variant: ClassVar[str] = "upernet"
    network: ClassVar[type[Network] | None] = UperNet
    columns: ClassVar[Mapping[str, str]] = {"classes": "list<int32>"}

    @property
    def palette(self) -> bytes:
        """ControlNet's colours of the 150 classes."""
        return named_set(CONDITIONS[self.condition].label_set).palette()

    def annotate(self, image: np.ndarray, output: np.ndarray, drawn: Mapping[str, Any]) -> Annotation:
        """labels map."""
        return Annotation(output, {"classes": np.flatnonzero(np.bincount(output.ravel(), minlength=256)).tolist()})


@dataclass(frozen=True)
class OneFormerClasses(UperNetClasses):
    """The same by OneFormer, which the paper's evaluation uses."""

    variant: ClassVar[str] = "oneformer"
    network: ClassVar[type[Network] | None] = OneFormer


@dataclass(frozen=True)
class SegFormerClasses(UperNetClasses):
    """The same by SegFormer: five times faster, non-commercial."""

    variant: ClassVar[str] = "segformer"
    network: ClassVar[type[Network] | None] = SegFormer


@dataclass(frozen=True)
class OneFormerLargeClasses(UperNetClasses):
    """The same by OneFormer-Swin-large."""

    variant: ClassVar[str] = "oneformer-large"
    network: ClassVar[type[Network] | None] = OneFormerLarge


@dataclass(frozen=True)
class Mask2FormerClasses(UperNetClasses):
    """The same by Mask2Former, the architecture that judges in ControlNet++."""

    variant: ClassVar[str] = "mask2former"
    network: ClassVar[type[Network] | None] = Mask2Former
