"""How a ControlNet joins its base, as the paper's or as what it is compared with; and what of both trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from safetensors import SafetensorError
from torch import nn

from controlmill.schemas.errors import MillError, error_text

from .ablations import InputControlNet, LiteControlNet
from .configuration import Connection, Unlock
from .encoders import EMBEDDING, POOLED
from .files import file_of, weights_of_network
from .skips import leave_out_skips

COPIED = (
    "conv_in",
    "time_proj",
    "time_embedding",
    "class_embedding",
    "add_embedding",
    "down_blocks",
    "mid_block",
)  # of the base's UNet
CLASSES: Mapping[Connection, type[ControlNetModel]] = {
    "zero": ControlNetModel,
    "gaussian": ControlNetModel,
    "random": ControlNetModel,
    "lite": LiteControlNet,
    "input": InputControlNet,
}


def make_controlnet(
    unet: UNet2DConditionModel, connection: Connection, vae_factor: int, channels: int, seed: int
) -> ControlNetModel:
    """An untrained ControlNet for a base.

    The embedding of the condition halves the picture once for each halving of the VAE:
    ``(16, 32, 96, 256)[: 1 + log2(vae_factor)]``. Weights drawn here depend on ``seed`` alone.
    """
    kind = controlnet_class(connection)
    shape = {
        "conditioning_embedding_out_channels": (16, 32, 96, 256)[: vae_factor.bit_length()],
        "conditioning_channels": channels,
    }
    if connection in ("lite", "random"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return kind.from_unet(unet, load_weights_from_unet=False, **shape)
    with torch.device("meta"):  # most weights are copies: drawing them first takes seconds
        controlnet = kind.from_unet(unet, load_weights_from_unet=False, **shape)
    for network in (controlnet, controlnet.frozen) if isinstance(controlnet, InputControlNet) else (controlnet,):
        for name, module in network.named_children():
            if name in COPIED and module.state_dict():
                copies = {key: value.clone() for key, value in getattr(unet, name).state_dict().items()}
                module.load_state_dict(copies, assign=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = controlnet.conv_in.out_channels
        controlnet.controlnet_cond_embedding = ControlNetConditioningEmbedding(
            width, conditioning_channels=channels, block_out_channels=shape["conditioning_embedding_out_channels"]
        )
        for convolution in zero_convolutions(controlnet)[:-1]:
            for parameter in convolution.to_empty(device=unet.device).parameters():
                nn.init.zeros_(parameter)
        if connection == "gaussian":
            for convolution in zero_convolutions(controlnet):
                fan_in = convolution.weight[0].numel()
                nn.init.normal_(convolution.weight, std=fan_in**-0.5)
    for module in (controlnet.controlnet_cond_embedding, *zero_convolutions(controlnet)):
        module.to(unet.dtype)
    return controlnet


def controlnet_class(connection: Connection) -> type[ControlNetModel]:
    """The class that a ControlNet of such connections has."""
    return CLASSES[connection]


def load_controlnet(folder: str, connection: Connection = "zero") -> ControlNetModel:
    """A trained ControlNet, float32; from .safetensors alone, since pickles can run code.

    ``folder`` may also be a repository on the hub; see :func:`files.file_of`.

    Raises:
        MillError: it cannot be loaded.
    """
    kind = controlnet_class(connection)
    settings = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    try:
        here = weights_of_network(folder, "diffusion_pytorch_model.safetensors")[0].parent
        file_of(folder, "config.json")
        loaded: ControlNetModel = kind.from_pretrained(str(here), **settings)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise MillError(f"{folder}: no ControlNet that can be loaded ({error_text(error)})") from error
    return loaded.eval()


def zero_convolutions(controlnet: ControlNetModel) -> list[nn.Conv2d]:
    """The convolutions that begin at zero: each connection's, if there are, and the last of the map's embedding."""
    connections = [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]
    embedding: nn.Conv2d = controlnet.controlnet_cond_embedding.conv_out
    return [embedding] if isinstance(controlnet, InputControlNet) else [*connections, embedding]


class Unconnected(nn.Conv2d):
    """A zero convolution that stays in the file and is not computed: its output is one zero, which has no gradient."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """One number, which is added to whatever the base has there."""
        return input.new_zeros(())


def is_connected(controlnet: ControlNetModel) -> bool:
    """Whether anything reaches the base's skip connections."""
    return any(bool(parameter.any()) for parameter in controlnet.controlnet_down_blocks.parameters())


def disconnect(controlnet: ControlNetModel) -> None:
    """Keep the middle block's connection alone; the others are zero: the stock pipeline does what was trained."""
    controlnet.controlnet_down_blocks = nn.ModuleList(
        Unconnected(block.in_channels, block.out_channels, 1, device=block.weight.device, dtype=block.weight.dtype)
        for block in controlnet.controlnet_down_blocks
    )
    for parameter in controlnet.controlnet_down_blocks.parameters():
        nn.init.zeros_(parameter)


def unlocked(unet: UNet2DConditionModel, unlock: Unlock) -> list[nn.Module]:
    """What is trained of a base.

    ``decoder`` is what the original repository unlocks with ``sd_locked=False``: output blocks and output convolution.
    ``base`` is all (v1 of the paper, "Improved training").
    """
    return {"none": [], "decoder": [unet.up_blocks, unet.conv_norm_out, unet.conv_out], "base": [unet]}[unlock]


def choose_trainable(
    controlnet: ControlNetModel, unet: UNet2DConditionModel, only_mid: bool, unlock: Unlock
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Set ``requires_grad`` everywhere; with ``only_mid`` :func:`disconnect`.

    Nothing of the base before what is trained needs a gradient, and autograd keeps nothing of it.

    Returns:
        (trainable parameters of the ControlNet, of the base).
    """
    unet.requires_grad_(False)
    controlnet.requires_grad_(True)
    if only_mid:
        disconnect(controlnet)
        controlnet.controlnet_down_blocks.requires_grad_(False)
        if unlock == "none":
            leave_out_skips(unet)
    if isinstance(controlnet, LiteControlNet):
        controlnet.time_embedding.requires_grad_(False)  # not used
    if isinstance(controlnet, InputControlNet):
        controlnet.frozen.requires_grad_(False)
    for module in unlocked(unet, unlock):
        module.requires_grad_(True)
        for parameter in module.parameters():
            parameter.data = parameter.data.float()
    trained = [parameter for parameter in controlnet.parameters() if parameter.requires_grad]
    return trained, [parameter for parameter in unet.parameters() if parameter.requires_grad]


def round_frozen(network: nn.Module, dtype: torch.dtype) -> None:
    """Bring what is not trained of a base to the precision of the run; copies of it were made before."""
    for parameter in network.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


class ControlledDenoiser(nn.Module):
    """Base and ControlNet as one module, so that one forward pass, and one gradient exchange, holds all that trains."""

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel | None):
        super().__init__()
        self.unet, self.controlnet = unet, controlnet

    def forward(
        self, noisy: torch.Tensor, t: torch.Tensor, prompt: Mapping[str, torch.Tensor], control: torch.Tensor | None
    ) -> torch.Tensor:
        """Prediction, float (N, C, h, w); ``control`` is (N, 3, H, W) in 0 to 1, or None for the base alone."""
        dtype = self.unet.dtype
        noisy, attended = noisy.to(dtype), self.attended(noisy, prompt)
        if control is None or self.controlnet is None:
            out: torch.Tensor = self.unet(noisy, t, **attended).sample
            return out
        down, mid = self.controlnet(noisy, t, controlnet_cond=control, return_dict=False, **attended)
        controlled: torch.Tensor = self.unet(
            noisy,
            t,
            **attended,
            down_block_additional_residuals=[residual.to(dtype) for residual in down],
            mid_block_additional_residual=mid.to(dtype),
        ).sample
        return controlled

    def attended(self, noisy: torch.Tensor, prompt: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """What UNet and ControlNet are given of a prompt; another family's UNet takes more."""
        return {"encoder_hidden_states": prompt[EMBEDDING]}


class ControlledDenoiserXL(ControlledDenoiser):
    """The same for Stable Diffusion XL; ``vae_factor`` is pixels per latent."""

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel | None, vae_factor: int):
        super().__init__(unet, controlnet)
        self.vae_factor = vae_factor

    def attended(self, noisy: torch.Tensor, prompt: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Also the pooled text, and the sizes of an uncropped picture."""
        height, width = (side * self.vae_factor for side in noisy.shape[2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=noisy.device)
        added = {"text_embeds": prompt[POOLED], "time_ids": sizes.expand(len(noisy), -1)}
        return {**super().attended(noisy, prompt), "added_cond_kwargs": added}
