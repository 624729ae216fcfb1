"""Random weights of annotators' networks at their real architectures, made once in a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from controlmill.annotators.base import Network
from tests.annotators import random_weights


def write(network: type[Network], folder: Path) -> None:
    """The network's files, where they are not there yet."""
    if all((folder / file.name).exists() for file in network.weights):
        return
    torch.manual_seed(random_weights.SEED)
    for file in network.weights:
        (folder / file.name).parent.mkdir(exist_ok=True)
    name = network.weights[0].name.split("/", maxsplit=1)[0]
    if name in WHOLE:
        WHOLE[name](folder / name)
    else:
        random_weights.write(network, folder)


def upernet(folder: Path) -> None:
    """UperNet with ConvNeXt-small."""
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    stages = [f"stage{i}" for i in range(1, 5)]
    backbone = ConvNextConfig(depths=[3, 3, 27, 3], hidden_sizes=[96, 192, 384, 768], out_features=stages)
    config = UperNetConfig(backbone_config=backbone, hidden_size=512, auxiliary_in_channels=384, num_labels=150)
    random_weights.save(UperNetForSemanticSegmentation(config), folder)


def oneformer(folder: Path) -> None:
    """OneFormer with Swin-tiny, as shi-labs/oneformer_ade20k_swin_tiny."""
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation, SwinConfig

    swin = SwinConfig(
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        image_size=224,
        out_features=[f"stage{i}" for i in range(1, 5)],
    )
    random_weights.save(
        OneFormerForUniversalSegmentation(OneFormerConfig(backbone_config=swin, num_labels=150)), folder
    )


def blip(folder: Path, large: bool = False) -> None:
    """BLIP base or large; the tokenizer has made-up words."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import BlipConfig, BlipForConditionalGeneration

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = BlipConfig(vision_config=vision, text_config={"encoder_hidden_size": 1024}) if large else BlipConfig()
    model = BlipForConditionalGeneration(config)
    if large:
        model.save_pretrained(folder)
    else:
        random_weights.save(model, folder)
    words = {f"w{i}": i for i in range(30522)} | {"[PAD]": 30522, "[UNK]": 30523}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(folder / "tokenizer.json"))


WHOLE = {  # the others are whole in random_weights
    "upernet-convnext-small": upernet,
    "oneformer_ade20k_swin_tiny": oneformer,
    "blip-image-captioning-base": blip,
    "blip-image-captioning-large": lambda folder: blip(folder, large=True),
}
