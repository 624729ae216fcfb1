"""Features with random weights against the packages that others use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from controlmill.evaluation.features.aesthetic import AestheticHead
from controlmill.evaluation.features.clip import CLIP336Pictures, CLIPPictures, CLIPTexts
from controlmill.evaluation.features.inception import Inception, scaled
from controlmill.evaluation.features.lpips import LPIPS
from controlmill.schemas.errors import MillError
from tests.evaluation.features import random_weights
from tests.evaluation.features.random_weights import loaded

NEAR = 1e-4


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Three of one size, and one that is wide; uint8 (H, W, 3)."""
    data = pytest.importorskip("skimage.data")
    crops = (data.astronaut()[:160], data.coffee()[:160, :160], data.chelsea()[:160, 60:220], data.astronaut())
    sizes = ((96, 96), (96, 96), (96, 96), (340, 260))
    return [cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop, size in zip(crops, sizes, strict=True)]


def of(network: Any, items: list[Any]) -> np.ndarray:
    raw = network.forward([network.preprocess(item) for item in items])
    return np.stack([network.postprocess(features, item) for features, item in zip(raw, items, strict=True)])


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= NEAR * np.abs(expected).max()


def test_scaling_is_clean_fids(pictures: list[np.ndarray]) -> None:
    reference = pytest.importorskip("cleanfid.resize").build_resizer("clean")
    for picture in pictures[2:]:
        assert np.array_equal(scaled(picture, 299), reference(picture).transpose(2, 0, 1))


def test_scaling_down_widens_the_filter_and_does_not_round() -> None:
    """Stripes of a pixel become grey, to a fraction of a level."""
    stripes = np.tile(np.array([0, 255], np.uint8)[:, None], (300, 600, 3))[:600, :600]
    found = scaled(np.ascontiguousarray(stripes.transpose(1, 0, 2)), 299)
    assert found[:, 20:-20, 20:-20].std() < 2
    assert (found % 1 != 0).any()


def test_inception_is_pytorch_fids(pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = pytest.importorskip("pytorch_fid.inception")
    random_weights.write_inception(tmp_path)
    state = torch.load(tmp_path / "pt_inception-2015-12-05-6726825d.pth", weights_only=True)
    monkeypatch.setattr(reference, "load_state_dict_from_url", lambda *_, **__: state)
    network = loaded(Inception, tmp_path)
    model = reference.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    inputs = torch.from_numpy(np.stack([network.preprocess(picture) for picture in pictures[:2]]))
    with torch.no_grad():
        expected = model(inputs)[0][:, :, 0, 0].numpy()
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * np.abs(expected).max()
    assert_near(of(network, pictures[:2]), expected)


def test_inception_leaves_out_what_is_beyond_the_edge(tmp_path: Path) -> None:
    """Of a constant picture an average pool changes nothing; torchvision's own darkens the edges."""
    from torchvision.models.inception import InceptionA

    from controlmill.evaluation.features.inception_blocks import fid_inception

    torch.manual_seed(0)
    block = fid_inception(8).Mixed_5b.eval()
    other = InceptionA(192, 32).eval()
    other.load_state_dict(block.state_dict())
    with torch.no_grad():
        ours, theirs = block(torch.ones(1, 192, 5, 5))[0, -32:], other(torch.ones(1, 192, 5, 5))[0, -32:]
    assert torch.allclose(ours, ours[:, 2:3, 2:3].expand_as(ours), atol=1e-6)
    assert torch.allclose(ours[:, 2, 2], theirs[:, 2, 2], atol=1e-6)
    assert not torch.allclose(ours, theirs, atol=1e-3)


def test_other_weights_are_named(tmp_path: Path) -> None:
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "pt_inception-2015-12-05-6726825d.pth")
    with pytest.raises(MillError, match="does not fit FID's InceptionV3"):
        loaded(Inception, tmp_path)
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "head.pth")
    with pytest.raises(MillError, match="does not fit the aesthetic head"):
        AestheticHead(tmp_path / "head.pth")


def test_clip_is_transformers(pictures: list[np.ndarray], tmp_path: Path) -> None:
    """The model and its processor as their documentation uses them; embeddings of length 1."""
    from PIL import Image
    from transformers import CLIPImageProcessor

    random_weights.write_clip(tmp_path)
    model = random_weights.clip_model()
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    inputs = processor([Image.fromarray(picture) for picture in pictures], return_tensors="pt")
    with torch.no_grad():
        embeddings = model.visual_projection(model.vision_model(**inputs).pooler_output)
    expected = torch.nn.functional.normalize(embeddings, dim=-1).numpy()
    assert_near(of(loaded(CLIPPictures, tmp_path), pictures), expected)


def test_clip_336_crops_and_scales_as_cmmd_does(pictures: list[np.ndarray], tmp_path: Path) -> None:
    from PIL import Image

    random_weights.write_clip(tmp_path)
    wide = Image.fromarray(pictures[3])
    square = wide.crop((40, 0, 300, 260)).resize((28, 28), Image.Resampling.BICUBIC)
    network = loaded(CLIP336Pictures, tmp_path)
    mean, deviation = np.array([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]])
    expected = ((np.asarray(square) / 255 - mean) / deviation).transpose(2, 0, 1)
    assert np.abs(network.preprocess(pictures[3]) - expected).max() < 1e-5
    assert np.linalg.norm(of(network, pictures), axis=1) == pytest.approx(1, abs=1e-5)


def test_texts_are_cut_to_77_tokens_and_differ_before(tmp_path: Path) -> None:
    random_weights.write_clip(tmp_path)
    network = loaded(CLIPTexts, tmp_path)
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "clip-vit-large-patch14")
    texts = ["red circle", "", "red " * 100, "red " * 75 + "circle circle", "circle " + "red " * 100]
    model = random_weights.clip_model()
    expected = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=77, return_tensors="pt")
        with torch.no_grad():
            states = model.text_model(input_ids=inputs["input_ids"]).last_hidden_state
            expected.append(torch.nn.functional.normalize(model.text_projection(states[:, -1]), dim=-1)[0].numpy())
    found = of(network, texts)
    assert_near(found, np.stack(expected))
    assert np.abs(found[2] - found[4]).max() > 1e-3


def test_aesthetic_head_is_the_authors_layers(tmp_path: Path) -> None:
    model = random_weights.write_aesthetic(tmp_path)
    embeddings = np.random.default_rng(0).normal(size=(4, 768)).astype(np.float32) * 7
    with torch.no_grad():
        unit = torch.nn.functional.normalize(torch.from_numpy(embeddings), dim=-1)
        expected = model(unit)[:, 0].numpy()
    found = AestheticHead(tmp_path / "sac+logos+ava1-l14-linearMSE.pth").scores(embeddings)
    assert found == pytest.approx(expected, rel=1e-4)


def test_lpips_is_torchmetrics(pictures: list[np.ndarray], tmp_path: Path) -> None:
    from torchmetrics.functional.image.lpips import _LPIPS as Reference

    random_weights.write_lpips(tmp_path)
    model = Reference(pretrained=False, net="alex", pnet_rand=True)
    backbone = torch.load(tmp_path / "alexnet-owt-7be5be79.pth", weights_only=True)
    for number in range(1, 6):
        part = getattr(model.net, f"slice{number}")
        part.load_state_dict({key: backbone[f"features.{key}"] for key in part.state_dict()})
    model.load_state_dict(torch.load(tmp_path / "lpips" / "alex.pth", weights_only=True), strict=False)
    network = loaded(LPIPS, tmp_path)
    found = network.distances([network.preprocess(picture) for picture in pictures[:3]])
    tensors = [torch.from_numpy(picture.transpose(2, 0, 1).copy())[None] / 255 for picture in pictures[:3]]
    with torch.no_grad():
        expected = [[float(model(one, other, normalize=True)) for other in tensors] for one in tensors]
    assert found == pytest.approx(np.array(expected), rel=1e-4, abs=1e-7)
    assert found[0, 1] > 0.01
