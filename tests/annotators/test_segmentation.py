"""Class ids against transformers: from the same scores the same ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from controlmill.annotators import segmentation
from controlmill.annotators.base import Network
from controlmill.annotators.runtime.upstream import controlnet_aux
from controlmill.annotators.segmentation import (
    Mask2Former,
    OneFormer,
    OneFormerLarge,
    SegFormer,
    UperNet,
    UperNetClasses,
    best_classes,
)
from controlmill.annotators.upernet_head import head_scores
from controlmill.schemas.images.codecs import decode_map, encode_map
from tests.annotators.conftest import LoadNetwork, Photos
from tests.annotators.running import annotate, outputs, replayed


def reference(network: Any, folder: Path, image: np.ndarray) -> np.ndarray:
    """Ids by transformers' own model and post-processing, what the model gave, and what its head gave if it has one."""
    import transformers

    model = getattr(transformers, network.model_class).from_pretrained(folder / network.weights[0].name.split("/")[0])
    processor = getattr(transformers, network.processor_class)(**network.processor)
    inputs = processor(image, return_tensors="pt")
    if issubclass(network, OneFormer):
        words = torch.zeros((1, segmentation.ONEFORMER_TASK_LENGTH), dtype=torch.int64)
        words[0, : len(segmentation.ONEFORMER_TASK)] = torch.tensor(segmentation.ONEFORMER_TASK)
        inputs["task_inputs"] = words
        processor = transformers.OneFormerImageProcessor
    head = []
    if network is UperNet:
        model.decode_head.register_forward_hook(lambda module, inputs, output: head.append(output))
    with torch.no_grad():
        output = model.eval()(**inputs)
    post_process = processor.post_process_semantic_segmentation
    arguments = (processor, output) if issubclass(network, OneFormer) else (output,)
    return post_process(*arguments, target_sizes=[image.shape[:2]])[0].numpy(), output, head


@pytest.mark.parametrize(
    "network", [UperNet, SegFormer, OneFormer, OneFormerLarge, Mask2Former], ids=lambda network: network.name
)
def test_equals_reference(
    load_network: LoadNetwork, photos_of_size: Photos, weights_folder: Path, network: type[Network]
) -> None:
    """The same ids from the same scores; from our own network's all but those of scores that are nearly equal."""
    loaded = load_network(network)
    for image in (photos_of_size(512)[0], photos_of_size(400)[1][:300]):
        expected, output, head = reference(network, weights_folder, image)
        name, scores = ("_run", head) if head else ("_network", [output])
        with replayed(loaded, name, scores):
            same_scores = outputs(loaded, [image])[0]
        assert same_scores.dtype == np.uint8
        assert np.array_equal(same_scores, expected)
        differ = np.mean(outputs(loaded, [image])[0] != expected)
        print(f"{network.name}: {len(np.unique(expected))} classes, {differ:.1e} of the pixels differ")
        assert differ < 1e-3
        assert len(np.unique(expected)) > 1


def test_best_classes_is_argmax() -> None:
    torch.manual_seed(0)
    scores = torch.randn(150, 20, 24)
    scores[70] = scores[30]  # of two equal ones the first wins
    whole = torch.nn.functional.interpolate(scores[None], size=(33, 50), mode="bilinear", align_corners=False)
    assert np.array_equal(best_classes(scores, [(33, 50)]), whole[0].argmax(dim=0).numpy())
    with pytest.raises(ValueError, match="not finite"):
        best_classes(scores / 0, [(33, 50)])


def test_scores_are_never_whole_on_the_cpu(load_network: LoadNetwork, photos_of_size: Photos) -> None:
    """Peak of tensor memory while one picture's scores become ids, against the 157 MB of all of them."""
    network = load_network(SegFormer)
    image = photos_of_size(512)[0]
    raw = network.forward([network.preprocess(image)])[0]
    with torch.profiler.profile(profile_memory=True) as profile:
        network.postprocess(raw, image)
    taken = held = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            taken = max(taken, held)
    print(f"at most {taken / 1e6:.0f} MB")
    assert 0 < taken < 60e6


def test_classes_and_palette(photos_of_size: Photos) -> None:
    image = photos_of_size(64)[0]
    ids = np.zeros((64, 64), np.uint8)
    ids[:, 20:], ids[5, 5] = 12, 149
    annotation = UperNetClasses().annotate(image, ids, {})
    assert annotation.columns == {"classes": [0, 12, 149]}
    palette = UperNetClasses().palette
    assert len(palette) == 768
    assert list(palette[36:39]) == [150, 5, 61]  # person
    listed = np.asarray(controlnet_aux("util").ade_palette(), np.uint8)
    assert palette[:450] == listed.tobytes(), "ControlNet's colours"
    assert not any(palette[450:]), "void is black"
    data = encode_map("labels", annotation.map, palette=palette)
    assert np.array_equal(decode_map("labels", data), ids)


def test_same_ids_for_a_batch(load_network: LoadNetwork, photos_of_size: Photos) -> None:
    network = load_network(SegFormer)
    found = [annotate(UperNetClasses(), network, photos_of_size(256), batch=batch) for batch in (1, 3)]
    for one, many in zip(*found, strict=True):
        assert np.mean(one.map != many.map) < 1e-3


@pytest.mark.parametrize("size", [(512, 512), (256, 320)])
def test_head_scores_are_the_models(load_network: LoadNetwork, size: tuple[int, int]) -> None:
    """The last convolution before enlargement is the one after it."""
    model = load_network(UperNet)._network
    torch.manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    with torch.inference_mode():
        features = model.backbone.forward_with_filtered_kwargs(torch.randn(2, 3, *size)).feature_maps
        expected = model.decode_head(features)
        found = head_scores(model.decode_head, features)
    difference = float((found - expected).abs().max() / expected.abs().max())
    print(f"scores differ by {difference:.1e}")
    assert 0 < difference < 1e-5
