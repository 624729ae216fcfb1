"""CLIP's embeddings (Radford et al. 2021) of pictures and texts, through transformers; each of length 1.

Two networks for pictures: ``clip`` is ViT-L/14 at 224, prepared as its own processor does, for CLIP score and the
aesthetic score; ``clip_336`` is ViT-L/14 at 336, whose pictures are cropped to a square and scaled by Pillow's bicubic
filter, as CMMD's own code does (google-research/cmmd ``io_util.py``). torchmetrics' CLIPScore is not used: with
transformers 5 it raises for every caption, and texts of more than 77 tokens are all alike to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.transformers_model import load_model, model_files
from controlmill.annotators.runtime.weights import WeightsFile

from .network import FeatureNetwork

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
TOKENS = 77
LICENCE = "MIT"
LARGE, LARGE_REVISION = "openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"
LARGE_336, LARGE_336_REVISION = "openai/clip-vit-large-patch14-336", "ce19dc912ca5cd21c8a653c79e251e808ccabcd1"
LARGE_FILES = model_files(
    LARGE,
    LARGE_REVISION,
    LICENCE,
    ("model.safetensors", 1710.5),
    config="8a09b467700c58138c29d53c605b34ebc69beaadd13274a8a2af8ad2c2f4032a",
    model="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
)
TOKENIZER = WeightsFile(
    "clip-vit-large-patch14/tokenizer.json", LARGE, LARGE_REVISION, None, 2.2, LICENCE, remote="tokenizer.json"
)


class CLIPNetwork(FeatureNetwork):
    """One half of a CLIP model, with its projection."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "transformers", "pillow", "numpy")
    half: ClassVar[Literal["vision", "text"]] = "vision"
    projection: ClassVar[str] = "visual_projection"

    def build(self, files: Mapping[str, Path]) -> Any:
        """The half; the other one is let go of."""
        import torch
        from transformers import CLIPModel

        model = load_model(CLIPModel, self.weights, files)
        half = torch.nn.ModuleDict(
            {"encoder": getattr(model, f"{self.half}_model"), "projection": getattr(model, self.projection)}
        )
        self._side = model.config.vision_config.image_size
        return half

    def entry(self) -> Any:
        """Embeddings of a batch."""
        import torch

        def embed(batch: Any) -> Any:
            pooled = self._network["encoder"](batch).pooler_output
            return torch.nn.functional.normalize(self._network["projection"](pooled).float(), dim=-1)

        return embed


class CLIPPictures(CLIPNetwork):
    """ViT-L/14 at 224: the shorter side scaled, the middle cut out. 768 values."""

    name: ClassVar[str] = "clip-vit-large-patch14"
    table: ClassVar[str] = "clip"
    weights: ClassVar[tuple[WeightsFile, ...]] = LARGE_FILES

    def __init__(self, files: Mapping[str, Path], place: Placement):
        from transformers import CLIPImageProcessor

        super().__init__(files, place)
        side = {"height": self._side, "width": self._side}
        self._processor = CLIPImageProcessor(
            size={"shortest_edge": self._side}, crop_size=side, image_mean=MEAN, image_std=STD
        )

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, 224, 224)."""
        pixels: np.ndarray = self._processor(image, return_tensors="np")["pixel_values"][0]
        return pixels


class CLIP336Pictures(CLIPNetwork):
    """ViT-L/14 at 336: the middle square, scaled. 768 values, for CMMD."""

    name: ClassVar[str] = "clip-vit-large-patch14-336"
    table: ClassVar[str] = "clip_336"
    weights: ClassVar[tuple[WeightsFile, ...]] = model_files(
        LARGE_336,
        LARGE_336_REVISION,
        LICENCE,
        ("pytorch_model.bin", 1712.0),
        model="c6032c2e0caae3dc2d4fba35535fa6307dbb49df59c7e182b1bc4b3329b81801",
    )

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, 336, 336)."""
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
        scaled = np.asarray(square.resize((self._side, self._side), Image.Resampling.BICUBIC))
        pixels = (scaled.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


class CLIPTexts(CLIPNetwork):
    """The texts of ViT-L/14: cut to 77 tokens, the end mark kept. 768 values, beside those of ``clip``."""

    name: ClassVar[str] = "clip-vit-large-patch14-text"
    table: ClassVar[str] = "clip_text"
    of: ClassVar[Literal["pictures", "texts"]] = "texts"
    weights: ClassVar[tuple[WeightsFile, ...]] = (*LARGE_FILES, TOKENIZER)
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers", "numpy")
    half: ClassVar[Literal["vision", "text"]] = "text"
    projection: ClassVar[str] = "text_projection"

    def __init__(self, files: Mapping[str, Path], place: Placement):
        from tokenizers import Tokenizer

        super().__init__(files, place)
        self._tokenizer = Tokenizer.from_file(str(files[TOKENIZER.name]))
        self._tokenizer.enable_truncation(TOKENS)
        self._tokenizer.no_padding()

    def preprocess(self, text: Any) -> np.ndarray:
        """int64 (77,): token ids; the end mark again behind the end, where nothing looks."""
        ids = self._tokenizer.encode(text).ids
        return np.array(ids + ids[-1:] * (TOKENS - len(ids)), np.int64)

    def forward(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """One embedding for each text."""
        import torch

        with torch.inference_mode():
            return self.outputs(self._run(torch.from_numpy(np.stack(batch)).to(self._place.device)))
