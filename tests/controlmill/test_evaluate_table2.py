"""Table 2 of the paper, its whole path: pictures of label maps, judged by OneFormer; numbers computed a second time.

Once on the tiny base with its real weights, once on Stable Diffusion 1.5's architecture with random ones. The judge and
BLIP, which says the automatic prompts, are their real classes, with random weights.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from controlmill.annotators.blip import BlipBase
from controlmill.annotators.segmentation import ONEFORMER_TASK, ONEFORMER_TASK_LENGTH, OneFormer
from controlmill.bases.registry import load_base
from controlmill.evaluation import protocols
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.images.codecs import decode_image, decode_map
from controlmill.schemas.maps.labels import VOID
from recipes.tiny_base.scenes import caption_words, write_corpus
from recipes.tiny_base.tokens import make_tokenizer, write_vocabulary
from tests.annotators import random_weights
from tests.helpers import command_in_new_process, digests, places, rows

ROWS = 2
SIDE = 128  # transformers smooths OneFormer's scores where it makes them smaller than a quarter of its input
CLASSES = 150


def save_stable_diffusion(folder: Path) -> str:
    """Stable Diffusion 1.5 with random weights, in 16 bits; its tokenizer has few words."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    try:
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280)
        )
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            scaling_factor=0.18215,
        )
        words = make_tokenizer(caption_words(), 77)
        ids = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
        encoder = CLIPTextModel(CLIPTextConfig(vocab_size=len(words), **sizes, **ids))
    finally:
        torch.set_default_dtype(torch.float32)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=words,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    write_vocabulary(caption_words(), folder / "tokenizer")
    return str(folder)


def save_controlnet(base: str, folder: Path) -> None:
    """An untrained ControlNet whose connections are not zero."""
    controlnet = load_base(base, torch.device("cpu")).make_controlnet("zero", seed=0)
    torch.manual_seed(1)
    for block in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.02)
    controlnet.save_pretrained(folder)


def labels_found_by(weights: Path, picture: np.ndarray) -> np.ndarray:
    """What transformers' own OneFormer and post-processing find."""
    import transformers

    model = transformers.OneFormerForUniversalSegmentation.from_pretrained(weights / "oneformer_ade20k_swin_tiny")
    inputs = transformers.SegformerImageProcessor(**OneFormer.processor)(picture, return_tensors="pt")
    task = torch.zeros((1, ONEFORMER_TASK_LENGTH), dtype=torch.int64)
    task[0, : len(ONEFORMER_TASK)] = torch.tensor(ONEFORMER_TASK)
    with torch.no_grad():
        output = model.eval()(**inputs, task_inputs=task)
    processor = transformers.OneFormerImageProcessor
    size = picture.shape[:2]
    found = processor.post_process_semantic_segmentation(processor, output, target_sizes=[size])[0]
    return found.numpy().astype(np.int64)


def iou_of_picture(found: np.ndarray, true: np.ndarray) -> float:
    """Mean IoU of the classes in the true map."""
    found, true = found[true != VOID], true[true != VOID]
    scores = []
    for label in np.unique(true):
        both, either = ((found == label) & (true == label)).sum(), ((found == label) | (true == label)).sum()
        scores.append(both / either)
    return float(np.mean(scores))


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("architecture", "steps"), [("tiny", 20), ("stable diffusion 1.5", 1)])
def test_table_2_from_pictures_to_numbers(architecture: str, steps: int, tmp_path: Path) -> None:
    metrics = pytest.importorskip("torchmetrics.classification")
    base = "tiny" if architecture == "tiny" else save_stable_diffusion(tmp_path / "base")
    save_controlnet(base, tmp_path / "controlnet")
    weights = tmp_path / "weights"
    weights.mkdir()
    for network in (OneFormer, BlipBase):
        random_weights.write(network, weights)
    photos, maps = write_corpus(tmp_path / "corpus", 6, seed=3)
    dataset, results, protocol = tmp_path / "dataset", tmp_path / "results", tmp_path / "table2.toml"
    table2 = (Path(protocols.__file__).parent / "paper-table2.toml").read_text("utf-8")
    protocol.write_text(table2.replace("\nsteps = 20\n", f"\nsteps = {steps}\n"), "utf-8")
    imported = tmp_path / "labels"
    shutil.copytree(maps / "segmentation", imported / "segmentation")
    built = command_in_new_process(
        *("build", str(photos), str(dataset), "--resolution", str(SIDE), "--conditions-from", str(imported)),
        *("--label-set", "ade20k-150"),
    )
    assert built.returncode == 0, built.stderr
    words = (
        *("evaluate", str(tmp_path / "controlnet"), str(dataset), str(results), "--base", base),
        *("--condition", "segmentation", "--protocol", str(protocol), "--prompts", "user,auto"),
        *("--judge", "segmentation=oneformer"),
        *("--rows", str(ROWS), "--device", "cpu", "--weights", str(weights)),
    )
    ended = command_in_new_process(*words, "--batch-size", "2", timeout=3000)
    assert ended.returncode == 0, ended.stderr
    before = digests(results)
    again = command_in_new_process(*words, timeout=3000)  # in batches as the results were begun
    assert again.returncode == 0, again.stderr
    assert digests(results) == before
    truth = dict(zip(places(dataset), rows(dataset, "segmentation"), strict=True))
    index = Dataset.open(results).index("segmentation")
    assert index
    assert index.provenance.made_by.placement
    assert index.provenance.made_by.placement.dtype == "fp32"  # whatever this machine is fast at
    sampled = 2 * ROWS  # behind them, for the ceiling, the rows' own pictures
    images, judged, scores = (rows(results, table)[:sampled] for table in ("images", "segmentation", "scores"))
    said = {one["measure"]: one for one in json.loads((results / "results.json").read_text())["measures"]}
    for kind in ("user", "auto"):
        values, pooled = [], metrics.MulticlassConfusionMatrix(num_classes=CLASSES, ignore_index=VOID)
        for image, judge, score in zip(images, judged, scores, strict=True):
            if image["prompt_kind"] != kind:
                continue
            true = decode_map("labels", truth[image["of_shard"], image["of_row"]]["map"]["bytes"]).astype(np.int64)
            found = decode_map("labels", judge["map"]["bytes"]).astype(np.int64)
            again = labels_found_by(weights, decode_image(image["image"]["bytes"]))
            assert np.mean(found != again) < 5e-3  # nearly equal scores of a pixel may swap
            values.append(iou_of_picture(found, true))
            assert score["miou"] == pytest.approx(values[-1])
            pooled.update(torch.from_numpy(found), torch.from_numpy(true))
        assert len(values) == ROWS
        matrix = pooled.compute().double()
        whole = matrix.diag() / (matrix.sum(0) + matrix.sum(1) - matrix.diag())
        (miou,) = (one["value"] for one in said["miou"]["values"] if one["prompt_kind"] == kind)
        (of_set,) = (one["value"] for one in said["miou_of_set"]["values"] if one["prompt_kind"] == kind)
        assert miou == pytest.approx(np.mean(values))
        assert of_set == pytest.approx(float(whole[~whole.isnan()].mean()))
    assert all(image["caption"] for image in images)
    assert "not comparable" in json.dumps(said["miou"]["published"])
    for folder in ("base", "controlnet", "weights"):  # gigabytes, which pytest would keep
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
