"""Prompts by BLIP (Li et al. 2022), as the paper captions its images; of transformers.

Without a prompt of its own to go on from, and without sampling: the same picture always gives the same words, in a
batch of any size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .base import Annotation, Annotator, Network
from .runtime.inference import compiled, ready
from .runtime.placement import Placement
from .runtime.torch_device import autocast, upload
from .runtime.transformers_model import load_model, model_files
from .runtime.weights import WeightsFile

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# BLIP large says "arafed man" and "there is an araffe" of many pictures: a word of its training captions gone wrong
NONSENSE_NOUN = re.compile(r"\b(?:(?:a|an|the) )?araff?es?\b ?")
NONSENSE_ADJECTIVE = re.compile(r"\baraff?ed\b ?")


class BlipBase(Network):
    """RGB normalised as for CLIP, squashed to 384x384, in; token ids out; a caption after postprocessing."""

    name: ClassVar[str] = "blip-base"
    version: ClassVar[int] = 2
    weights: ClassVar[tuple[WeightsFile, ...]] = (
        *model_files(
            "Salesforce/blip-image-captioning-base",
            "82a37760796d32b1411fe092ab5d4e227313294b",
            "BSD-3-Clause",
            ("pytorch_model.bin", 989.8),
            model="d6638651a5526cc2ede56f2b5104d6851b0755816d220e5e046870430180c767",
        ),
        WeightsFile(
            "blip-image-captioning-base/tokenizer.json",
            "Salesforce/blip-image-captioning-base",
            "82a37760796d32b1411fe092ab5d4e227313294b",
            "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
            0.7,
            "BSD-3-Clause",
            remote="tokenizer.json",
        ),
    )
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "transformers", "tokenizers", "numpy")
    beams: ClassVar[int] = 1
    cpu_batch: ClassVar[int] = 8  # a step reads all weights for one word of each picture: 2.5 times as fast at bf16
    most_tokens: ClassVar[int] = 20

    def __init__(self, files: Mapping[str, Path], place: Placement):
        from tokenizers import Tokenizer
        from transformers import BlipForConditionalGeneration, BlipImageProcessor

        self._model = ready(load_model(BlipForConditionalGeneration, self.weights, files), place)
        if place.compile:  # the eye alone: what the words look back on grows with each of them
            vision = self._model.vision_model
            vision.forward = compiled(vision.forward, place, self.name)
            ready(self._model.text_decoder, replace(place, compile=False))
        self._tokenizer = Tokenizer.from_file(str(files[self.weights[-1].name]))
        size = self._model.config.vision_config.image_size
        self._processor = BlipImageProcessor(
            size={"height": size, "width": size}, image_mean=CLIP_MEAN, image_std=CLIP_STD
        )
        self._end = self._model.config.text_config.sep_token_id
        self._place = place

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, 384, 384)."""
        pixels: np.ndarray = self._processor(image, return_tensors="np")["pixel_values"][0]
        return pixels

    def forward(self, batch: Sequence[np.ndarray]) -> list[list[int]]:
        """Token ids of each caption, without the marks of start and end."""
        import torch

        with torch.inference_mode(), autocast(self._place):
            ids = self._model.generate(
                pixel_values=upload(batch, self._place),
                max_new_tokens=self.most_tokens,
                num_beams=self.beams,
                do_sample=False,
            )
        captions = [row[1:] for row in ids.tolist()]
        return [row[: row.index(self._end)] if self._end in row else row for row in captions]

    def postprocess(self, raw: list[int], image: np.ndarray) -> str:
        """The caption."""
        caption: str = self._tokenizer.decode(raw, skip_special_tokens=True)
        return caption


class BlipBaseBeams(BlipBase):
    """The same with the beam search of BLIP's own demonstration."""

    name: ClassVar[str] = "blip-base-beams"
    beams: ClassVar[int] = 3


class BlipLarge(BlipBase):
    """The large model."""

    name: ClassVar[str] = "blip-large"
    weights: ClassVar[tuple[WeightsFile, ...]] = (
        *model_files(
            "Salesforce/blip-image-captioning-large",
            "353689b859fcf0523410b1806dace5fb46ecdf41",
            "BSD-3-Clause",
            ("model.safetensors", 1879.0),
        ),
        WeightsFile(
            "blip-image-captioning-large/tokenizer.json",
            "Salesforce/blip-image-captioning-large",
            "353689b859fcf0523410b1806dace5fb46ecdf41",
            None,
            0.7,
            "BSD-3-Clause",
            remote="tokenizer.json",
        ),
    )


class BlipLargeBeams(BlipLarge):
    """The large model with three beams."""

    name: ClassVar[str] = "blip-large-beams"
    beams: ClassVar[int] = 3


def without_nonsense(caption: str) -> str:
    """``arafed man in a boat`` → ``man in a boat``."""
    return NONSENSE_NOUN.sub("", NONSENSE_ADJECTIVE.sub("", caption)).strip()


@dataclass(frozen=True)
class BaseCaption(Annotator):
    """A caption in lower case."""

    condition: ClassVar[str] = "caption"
    variant: ClassVar[str] = "blip-base"
    network: ClassVar[type[Network] | None] = BlipBase

    def annotate(self, image: np.ndarray, output: str, drawn: Mapping[str, Any]) -> Annotation:
        """Text."""
        return Annotation(without_nonsense(output))


@dataclass(frozen=True)
class BaseBeamCaption(BaseCaption):
    """The same, the best of three beams."""

    variant: ClassVar[str] = "blip-base-beams"
    network: ClassVar[type[Network] | None] = BlipBaseBeams


@dataclass(frozen=True)
class LargeCaption(BaseCaption):
    """The same by the large model: longer."""

    variant: ClassVar[str] = "blip-large"
    network: ClassVar[type[Network] | None] = BlipLarge


@dataclass(frozen=True)
class LargeBeamCaption(BaseCaption):
    """The same by the large model, the best of three beams."""

    variant: ClassVar[str] = "blip-large-beams"
    network: ClassVar[type[Network] | None] = BlipLargeBeams
