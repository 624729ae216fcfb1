"""All ten tables: `datasets.map` over controlnet-aux and transformers, one call per condition, against ControlMill.

The same photographs at 512x512 and the same weights (HED's are real, the others random, architectures are whole), one
thread each, in one process; models are loaded before the clock starts. Ours includes decoding, PNG and Parquet.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.corpus import write_photographs
from controlmill.annotators.catalogue import Choice, parse_conditions
from controlmill.annotators.plan import find_weights, forward_groups
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.upstream import controlnet_aux
from controlmill.pipelines import ingestion
from controlmill.pipelines.engine.process import Resources
from controlmill.pipelines.engine.run_folder import Run
from controlmill.pipelines.engine.shards import Job, run_shard
from controlmill.pipelines.stages.annotate import Annotate
from controlmill.pipelines.stages.ingest import IngestConfig
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.fingerprint import processor_name
from tests.annotators import random_weights

CONDITIONS = "canny,hough,hed,scribble,pose,segmentation,depth,normals,cartoon,caption"


def write_weights(folder: Path) -> None:
    """Random weights of all default networks, at full size."""
    from transformers import (
        BlipConfig,
        BlipForConditionalGeneration,
        ConvNextConfig,
        UperNetConfig,
        UperNetForSemanticSegmentation,
    )

    for group in forward_groups(parse_conditions(CONDITIONS)):
        network = group.network()
        if network and network.name != "hed":
            random_weights.write(network, folder)
    backbone = ConvNextConfig(
        depths=[3, 3, 27, 3], hidden_sizes=[96, 192, 384, 768], out_features=[f"stage{i}" for i in range(1, 5)]
    )
    upernet = UperNetConfig(backbone_config=backbone, hidden_size=512, auxiliary_in_channels=384, num_labels=150)
    random_weights.save(UperNetForSemanticSegmentation(upernet), folder / "upernet-convnext-small")
    blip = BlipForConditionalGeneration(BlipConfig())
    random_weights.save(blip, folder / "blip-image-captioning-base")


def reference_calls(folder: Path, hed: Path) -> dict[str, Callable[[Any], Any]]:
    """Condition → what users call today on one PIL picture."""
    from transformers import (
        BlipForConditionalGeneration,
        BlipImageProcessor,
        DPTForDepthEstimation,
        DPTImageProcessor,
        SegformerImageProcessor,
        UperNetForSemanticSegmentation,
    )

    from controlmill.annotators.hed import from_keras

    aux = controlnet_aux
    edges = aux("hed").ControlNetHED_Apache2()
    edges.load_state_dict(from_keras(hed))
    soft = aux("hed").HEDdetector(edges.float().eval())
    lines = aux("mlsd").MLSDdetector.from_pretrained(str(folder))
    anime = aux("lineart_anime").LineartAnimeDetector.from_pretrained(str(folder))
    people = aux("open_pose").OpenposeDetector(aux("open_pose.body").Body(str(folder / "body_pose_model.pth")))
    classes = UperNetForSemanticSegmentation.from_pretrained(folder / "upernet-convnext-small").eval()
    class_input = SegformerImageProcessor(size={"height": 512, "width": 512})
    depth = DPTForDepthEstimation.from_pretrained(folder / "dpt-hybrid-midas").eval()
    depth_input = DPTImageProcessor(size={"height": 384, "width": 384})
    words = BlipForConditionalGeneration.from_pretrained(folder / "blip-image-captioning-base").eval()
    words_input = BlipImageProcessor()

    @torch.no_grad()
    def raw_depth(picture: Any) -> np.ndarray:
        output = depth(**depth_input(picture, return_tensors="pt")).predicted_depth
        resized = torch.nn.functional.interpolate(output[:, None], picture.size[::-1], mode="bicubic")
        return resized[0, 0].numpy()

    def grey_depth(picture: Any) -> np.ndarray:
        raw = raw_depth(picture)
        return ((raw - raw.min()) / (raw.max() - raw.min()) * 65535).astype(np.uint16)

    def slopes(picture: Any) -> np.ndarray:
        raw = raw_depth(picture)
        across, down = (cv2.Sobel(raw, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
        normal = np.stack([across, down, np.full_like(raw, 2 * np.pi)], axis=2)
        normal /= np.linalg.norm(normal, axis=2, keepdims=True)
        return (normal * 127.5 + 127.5).clip(0, 255).astype(np.uint8)

    @torch.no_grad()
    def labels(picture: Any) -> np.ndarray:
        output = classes(**class_input(picture, return_tensors="pt"))
        found = class_input.post_process_semantic_segmentation(output, target_sizes=[picture.size[::-1]])[0]
        return found.numpy().astype(np.uint8)

    @torch.no_grad()
    def caption(picture: Any) -> str:
        pixels = words_input(picture, return_tensors="pt")["pixel_values"]
        return str(words.generate(pixel_values=pixels, max_new_tokens=20).tolist())

    return {
        "canny": aux("canny").CannyDetector(),
        "hough": lines,
        "hed": soft,
        "scribble": lambda picture: soft(picture, scribble=True),
        "pose": people,
        "segmentation": labels,
        "depth": grey_depth,
        "normals": slopes,
        "cartoon": anime,
        "caption": caption,
    }


def time_reference(dataset: Path, calls: dict[str, Callable[[Any], Any]]) -> dict[str, float]:
    """Condition → seconds a picture, through `datasets.map`."""
    from datasets import Image, disable_progress_bars, load_dataset
    from PIL import Image as Pictures

    disable_progress_bars()
    files = str(dataset / "images/*/*.parquet")
    images = load_dataset("parquet", data_files=files, split="train", cache_dir=str(dataset / "cache"))
    images = images.select_columns(["image"]).cast_column("image", Image())
    seconds = {}
    for condition, call in calls.items():

        def one(row: dict[str, Any], call: Callable[[Any], Any] = call) -> dict[str, Any]:
            found = call(row["image"])
            return {"map": Pictures.fromarray(found) if isinstance(found, np.ndarray) else found}

        started = time.perf_counter()
        images.map(one, remove_columns=["image"], load_from_cache_file=False, new_fingerprint=condition)
        seconds[condition] = (time.perf_counter() - started) / len(images)
    return seconds


def time_ours(dataset: Path, choices: list[Choice], weights: Path, dtype: str, count: int) -> dict[str, float]:
    """Conditions of a forward group → seconds a picture, through the job's own code."""
    found = {file.name: file for file in find_weights(choices, str(weights))}
    opened = Dataset.open(dataset)
    seconds = {}
    for group in forward_groups(choices):
        network = group.network()
        stage = Annotate(
            (group,),
            found,
            {network.name: Placement(dtype=dtype, batch_size=min(network.cpu_batch, count))} if network else {},
        )
        run = Run.start(opened.storage)
        for timed in (False, True):
            for table in stage.outputs():
                opened.drop(table)
            started = time.perf_counter()
            said = run_shard(Job(opened.storage, run.id, stage, stage.outputs(), 1), 0)
            if said["status"] != "done":
                raise RuntimeError(run.failures())
            if timed:
                names = ", ".join(choice.condition for choice in group.choices)
                seconds[names] = (time.perf_counter() - started) / opened.footer("images", 0).rows
        run.end()
    return seconds


def main() -> None:
    """Print seconds a picture, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4, help="photographs")
    count: int = parser.parse_args().count
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    choices = parse_conditions(CONDITIONS)
    with tempfile.TemporaryDirectory(prefix="controlmill-bench-") as temporary:
        folder = Path(temporary)
        write_weights(folder)
        photos = write_photographs(folder / "photos", count)
        with Resources(threads=1) as resources:
            ingestion.ingest(str(photos), str(folder / "dataset"), IngestConfig(), resources)
        hed = next(found for found in find_weights(parse_conditions("hed"), str(folder)))
        theirs = time_reference(folder / "dataset", reference_calls(folder, Path(hed.path)))
        shutil.rmtree(folder / "dataset/cache")
        ours = {dtype: time_ours(folder / "dataset", choices, folder, dtype, count) for dtype in ("fp32", "bf16")}
    print(f"{processor_name()}, {os.cpu_count()} cores, one thread; {count} photographs at 512x512; seconds a picture")
    print(f"{'conditions':20} {'datasets.map':>12} {'ours fp32':>10} {'ours bf16':>10}")
    for names in ours["fp32"]:
        reference = sum(theirs[name] for name in names.split(", "))
        print(f"{names:20} {reference:12.3f} {ours['fp32'][names]:10.3f} {ours['bf16'][names]:10.3f}")
    total = sum(theirs.values())
    sums = {dtype: sum(times.values()) for dtype, times in ours.items()}
    print(f"{'all ten':20} {total:12.3f} {sums['fp32']:10.3f} {sums['bf16']:10.3f}")
    for dtype, goal in (("fp32", "1.9"), ("bf16", "6 on a processor with AMX")):
        print(f"{dtype}: {1 / sums[dtype]:.3f} images/s, {total / sums[dtype]:.2f} times datasets.map (goal: {goal})")


if __name__ == "__main__":
    main()
