"""Files of random weights under the names that the reference detectors read, so that both sides load the same ones.

Architectures are the real ones; of the transformers models only depth and width are reduced, as their config.json says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file

from controlmill.annotators.base import Network
from controlmill.annotators.runtime.upstream import controlnet_aux

SEED = 20261122


def write(network: type[Network], folder: Path) -> None:
    """Files for ``network``, where they are not there yet; several processes may ask for them."""
    for file in network.weights:
        name = file.name.split("/", maxsplit=1)[0]
        with FileLock(folder / f"{name}.lock"):
            if not (folder / file.name).exists():
                torch.manual_seed(SEED)
                (folder / file.name).parent.mkdir(exist_ok=True)
                WRITERS[name](folder)


def hed(folder: Path) -> None:
    model = controlnet_aux("hed").ControlNetHED_Apache2()
    model.norm.data += 120
    for block in (model.block1, model.block2, model.block3, model.block4, model.block5):
        block.projection.weight.data *= 20
    torch.save(model.state_dict(), folder / "ControlNetHED.pth")


def mlsd(folder: Path) -> None:
    model = controlnet_aux("mlsd.models.mbv2_mlsd_large").MobileV2_MLSD_Large()
    last = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    last.weight.data *= 1000
    torch.save(model.state_dict(), folder / "mlsd_large_512_fp32.pth")


def anime2sketch(folder: Path) -> None:
    norm = torch.nn.InstanceNorm2d
    model = controlnet_aux("lineart_anime").UnetGenerator(3, 1, 8, 64, norm_layer=norm)
    state = {f"module.{key}": tensor for key, tensor in model.state_dict().items()}
    torch.save(state, folder / "netG.pth")


def lineart(folder: Path, name: str = "sk_model.pth") -> None:
    model = controlnet_aux("lineart").Generator(3, 1, 3)
    model.model4[1].weight.data *= 10
    torch.save(model.state_dict(), folder / name)


def midas(folder: Path) -> None:
    model = controlnet_aux("midas.midas.dpt_depth").DPTDepthModel(backbone="vitb_rn50_384", non_negative=True)
    model.scratch.output_conv[4].weight.data *= 100
    model.scratch.output_conv[4].bias.data += 50
    torch.save(model.state_dict(), folder / "dpt_hybrid-midas-501f0c75.pt")


def normalbae(folder: Path) -> None:
    import types

    settings = types.SimpleNamespace(architecture="BN", sampling_ratio=0.4, importance_ratio=0.7)
    model = controlnet_aux("normalbae.nets.NNET").NNET(settings)
    for module in model.decoder.modules():
        if isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d)):
            torch.nn.init.kaiming_normal_(module.weight)
    torch.save({"model": model.state_dict()}, folder / "scannet.pt")


def body(folder: Path) -> None:
    """The last layers are scaled so that there are peaks, limbs and people."""
    model = controlnet_aux("open_pose.model").bodypose_model()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
                module.bias.zero_()
        pixels = torch.rand(1, 3, 184, 184, generator=torch.Generator().manual_seed(SEED)) - 0.5
        for layers, spread in ((model.model6_2, 0.2), (model.model6_1, 0.5)):
            output = model(pixels)[0 if layers is model.model6_1 else 1]
            layers[-1 if isinstance(layers[-1], torch.nn.Conv2d) else -2].weight *= spread / output.std()
    torch.save(without_first_name(model), folder / "body_pose_model.pth")


def hand(folder: Path) -> None:
    model = controlnet_aux("open_pose.model").handpose_model()
    model.model6[-1].bias.data += 0.1
    torch.save(without_first_name(model), folder / "hand_pose_model.pth")


def without_first_name(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state dict named as OpenPose's files are."""
    return {key.split(".", maxsplit=1)[1]: tensor for key, tensor in model.state_dict().items()}


def face(folder: Path) -> None:
    model = controlnet_aux("open_pose.face").FaceNet()
    model.Mconv7_stage6.bias.data += 0.1
    torch.save(model.state_dict(), folder / "facenet.pth")


def dpt(folder: Path) -> None:
    from transformers import DPTConfig, DPTForDepthEstimation

    model = DPTForDepthEstimation(DPTConfig(is_hybrid=True, **small_dpt(192, [256, 512, 192, 192])))
    model.head.head[4].weight.data *= 3000
    model.head.head[4].bias.data += 50
    save(model, folder / "dpt-hybrid-midas")


def dpt_large(folder: Path) -> None:
    from transformers import DPTConfig, DPTForDepthEstimation

    model = DPTForDepthEstimation(DPTConfig(**small_dpt(96, [16, 32, 64, 64]), initializer_range=0.2))
    model.head.head[4].weight.data *= 100
    model.head.head[4].bias.data += 50
    model.save_pretrained(folder / "dpt-large")


def small_dpt(hidden: int, neck: list[int]) -> dict[str, Any]:
    """A DPT of four layers, in the words of its config."""
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_attention_heads": 4, "num_hidden_layers": 4}
    neck_sizes = {"neck_hidden_sizes": neck, "fusion_hidden_size": 32, "backbone_out_indices": [0, 1, 2, 3]}
    return {**sizes, **neck_sizes}


def upernet(folder: Path) -> None:
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    stages = [f"stage{i}" for i in range(1, 5)]
    backbone = ConvNextConfig(
        depths=[1, 1, 3, 1], hidden_sizes=[96, 192, 384, 768], out_features=stages, initializer_range=0.2
    )
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=64, auxiliary_in_channels=384, num_labels=150, initializer_range=0.2
    )
    save(UperNetForSemanticSegmentation(config), folder / "upernet-convnext-small")


def segformer(folder: Path) -> None:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    model = SegformerForSemanticSegmentation(SegformerConfig(num_labels=150, initializer_range=0.2))
    model.save_pretrained(folder / "segformer-b0-finetuned-ade-512-512")


def oneformer(folder: Path, name: str = "oneformer_ade20k_swin_tiny") -> None:
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation, SwinConfig

    swin = SwinConfig(depths=[1, 1, 1, 1], out_features=[f"stage{i}" for i in range(1, 5)])
    config = OneFormerConfig(
        backbone_config=swin,
        num_labels=150,
        num_queries=30,
        encoder_layers=1,
        decoder_layers=2,
        encoder_feedforward_dim=256,
    )
    model = OneFormerForUniversalSegmentation(config)
    decoder = model.model.transformer_module.decoder
    decoder.class_embed.weight.data *= 100
    for layer in decoder.mask_embed.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data *= 10
    save(model, folder / name)


def mask2former(folder: Path) -> None:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    swin = SwinConfig(embed_dim=24, depths=[1, 1, 1, 1], out_features=[f"stage{i}" for i in range(1, 5)])
    config = Mask2FormerConfig(
        backbone_config=swin,
        num_labels=150,
        num_queries=30,
        encoder_layers=1,
        decoder_layers=3,
        encoder_feedforward_dim=256,
        dim_feedforward=256,
    )
    model = Mask2FormerForUniversalSegmentation(config)
    model.class_predictor.weight.data *= 100
    for layer in model.model.transformer_module.decoder.mask_predictor.mask_embedder.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data *= 10
    model.save_pretrained(folder / "mask2former-swin-large-ade-semantic")


def blip(folder: Path, large: bool = False) -> None:
    """The token that ends a caption is one that this model says early, so that captions differ in length."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import BlipConfig, BlipForConditionalGeneration

    small = {"num_hidden_layers": 2, "initializer_range": 0.3}
    config = BlipConfig(text_config={**small, "sep_token_id": 3205}, vision_config={**small, "initializer_range": 0.1})
    name = f"blip-image-captioning-{'large' if large else 'base'}"
    model = BlipForConditionalGeneration(config)
    (model.save_pretrained if large else lambda place: save(model, place))(folder / name)
    vocabulary = {f"w{i}": i for i in range(30522)}
    vocabulary |= {"[PAD]": 30522, "[UNK]": 30523}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(folder / name / "tokenizer.json"))


def save(model: torch.nn.Module, folder: Path) -> None:
    """As repositories with a pytorch_model.bin do, under the names of old that ``save_pretrained`` returns to."""
    model.save_pretrained(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


WRITERS: dict[str, Callable[[Path], None]] = {
    "ControlNetHED.pth": hed,
    "mlsd_large_512_fp32.pth": mlsd,
    "netG.pth": anime2sketch,
    "sk_model.pth": lineart,
    "sk_model2.pth": lambda folder: lineart(folder, "sk_model2.pth"),
    "dpt_hybrid-midas-501f0c75.pt": midas,
    "scannet.pt": normalbae,
    "body_pose_model.pth": body,
    "hand_pose_model.pth": hand,
    "facenet.pth": face,
    "dpt-hybrid-midas": dpt,
    "upernet-convnext-small": upernet,
    "segformer-b0-finetuned-ade-512-512": segformer,
    "oneformer_ade20k_swin_tiny": oneformer,
    "oneformer_ade20k_swin_large": lambda folder: oneformer(folder, "oneformer_ade20k_swin_large"),
    "mask2former-swin-large-ade-semantic": mask2former,
    "dpt-large": dpt_large,
    "blip-image-captioning-base": blip,
    "blip-image-captioning-large": lambda folder: blip(folder, large=True),
}
