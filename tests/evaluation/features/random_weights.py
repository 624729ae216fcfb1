"""Files of random weights as they are published, of the real InceptionV3 and AlexNet and of a small CLIP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from controlmill.annotators.base import Network
from controlmill.annotators.runtime.placement import Placement
from controlmill.evaluation.features.inception_blocks import fid_inception

SEED = 20261127
WIDTH = 32


def write_inception(folder: Path) -> None:
    torch.manual_seed(SEED)
    model = fid_inception(1008)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.5)
    torch.save(model.state_dict(), folder / "pt_inception-2015-12-05-6726825d.pth")


def clip_model() -> Any:
    """Both halves, 32 wide; pictures of 28 and patches of 14."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(SEED)
    narrow = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**narrow, "vocab_size": 600, "bos_token_id": 0, "eos_token_id": 2, "projection_dim": WIDTH},
        vision_config={**narrow, "image_size": 28, "patch_size": 14, "projection_dim": WIDTH},
        projection_dim=WIDTH,
    )
    return CLIPModel(config).eval()


def write_clip(folder: Path) -> None:
    """Both sizes of CLIP, and a tokenizer of the words of this project's synthetic captions."""
    from recipes.tiny_base.tokens import make_tokenizer

    clip_model().save_pretrained(folder / "clip-vit-large-patch14")
    make_tokenizer(["red", "circle"], 77).save_pretrained(folder / "clip-vit-large-patch14")
    wide = folder / "clip-vit-large-patch14-336"
    wide.mkdir()
    torch.save(clip_model().state_dict(), wide / "pytorch_model.bin")
    (wide / "config.json").write_text(json.dumps(clip_model().config.to_dict()))


def write_lpips(folder: Path) -> None:
    from torchvision.models import alexnet

    torch.manual_seed(SEED)
    with torch.device("meta"):
        network = alexnet(weights=None).features
    network = network.to_empty(device="cpu")
    for layer in network:
        if isinstance(layer, torch.nn.Conv2d):
            layer.reset_parameters()
    state = {f"features.{key}": tensor for key, tensor in network.state_dict().items()}
    torch.save(state, folder / "alexnet-owt-7be5be79.pth")
    sizes = enumerate((64, 192, 384, 256, 256))
    lines = {f"lin{number}.model.1.weight": torch.rand(1, size, 1, 1) for number, size in sizes}
    (folder / "lpips").mkdir()
    torch.save(lines, folder / "lpips" / "alex.pth")


def write_aesthetic(folder: Path, width: int = 768) -> torch.nn.Module:
    """Returns the layers as the authors stack them."""
    torch.manual_seed(SEED)
    layers: list[torch.nn.Module] = []
    for inputs, outputs, dropout in ((width, 1024, 0.2), (1024, 128, 0.2), (128, 64, 0.1), (64, 16, 0), (16, 1, 0)):
        layers += [torch.nn.Linear(inputs, outputs), *([torch.nn.Dropout(dropout)] if dropout else [])]
    model = torch.nn.Sequential(*layers).eval()
    state = {f"layers.{key}": tensor for key, tensor in model.state_dict().items()}
    torch.save(state, folder / "sac+logos+ava1-l14-linearMSE.pth")
    return model


def loaded(network: type[Network], folder: Path) -> Any:
    """The network with what lies in a folder."""
    return network({file.name: folder / file.name for file in network.weights}, Placement())
