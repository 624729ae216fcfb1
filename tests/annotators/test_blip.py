"""Captions against transformers, alone and in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from controlmill.annotators.base import Network
from controlmill.annotators.blip import BaseCaption, BlipBase, BlipBaseBeams, without_nonsense
from tests.annotators.conftest import LoadNetwork, Photos

# Of log-probabilities, whose spread is 8: of two words so near either may win. With these weights, which amplify last
# bits, two copies of the network differ by up to 0.11 on one processor or another.
TIE = 0.25


def scores(model: Any, pixels: torch.Tensor, words: list[int]) -> torch.Tensor:
    """Log-probabilities of what follows each beginning of a caption, (words + 1, vocabulary)."""
    with torch.no_grad():
        picture = model.vision_model(pixels).last_hidden_state
        ids = torch.tensor([[model.config.text_config.bos_token_id, *words]])
        return model.text_decoder(input_ids=ids, encoder_hidden_states=picture).logits[0].log_softmax(dim=1)


def check_caption(model: Any, pixels: torch.Tensor, found: list[int], expected: list[int], beams: int) -> None:
    """Captions are equal, or both as good as the other within :data:`TIE`."""
    if found == expected:
        return
    end = model.config.text_config.sep_token_id
    one, other = [*found, end], [*expected, end]
    if beams > 1:
        means = [
            scores(model, pixels, words)[range(len(words) + 1), [*words, end]].mean() for words in (found, expected)
        ]
        assert means[0] >= means[1] - TIE
        return
    first = next(i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    step = scores(model, pixels, expected[:first])[first]
    gap = float(abs(step[one[first]] - step[other[first]]))
    print(f"words differ by {gap:.1e} in their log-probabilities")
    assert gap < TIE


@pytest.mark.parametrize("network", [BlipBase, BlipBaseBeams], ids=lambda network: network.name)
def test_tokens_equal_reference(
    load_network: LoadNetwork, photos_of_size: Photos, weights_folder: Path, network: type[Network]
) -> None:
    from tokenizers import Tokenizer
    from transformers import BlipForConditionalGeneration, BlipImageProcessor

    folder = weights_folder / "blip-image-captioning-base"
    loaded = load_network(network)
    reference = BlipForConditionalGeneration.from_pretrained(folder).eval()
    end = reference.config.text_config.sep_token_id
    processor = BlipImageProcessor()
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    images = photos_of_size(256)[:2]
    together = loaded.forward([loaded.preprocess(image) for image in images])
    texts = [loaded.postprocess(raw, image) for raw, image in zip(together, images, strict=True)]
    captions = [BaseCaption().annotate(image, text, {}).map for image, text in zip(images, texts, strict=True)]
    for i, image in enumerate(images):
        with torch.no_grad():
            pixels = processor(image, return_tensors="pt")["pixel_values"]
            expected = reference.generate(pixels, max_new_tokens=20, num_beams=network.beams, do_sample=False)[0]
        ended = [token for token in expected.tolist()[1:] if token not in (0, end)]
        for found in (loaded.forward([loaded.preprocess(image)])[0], together[i]):
            check_caption(reference, pixels, found, ended, network.beams)
        assert captions[i] == words.decode(together[i])
    assert len(set(captions)) > 1


def test_batch_is_singles(load_network: LoadNetwork, photos_of_size: Photos) -> None:
    network = load_network(BlipBase)
    model = network._model
    inputs = [network.preprocess(image) for image in photos_of_size(256)]
    for _ in range(40):  # until captions end at several lengths, which tests the padding
        singles = [network.forward([one])[0] for one in inputs]
        if len({len(tokens) for tokens in singles}) > 1:
            break
        with torch.no_grad():
            model.text_decoder.get_output_embeddings().bias[network._end] += 0.1
    else:
        raise AssertionError("captions of one length do not test the padding")
    for pixels, one, other in zip(inputs, network.forward(inputs), singles, strict=True):
        check_caption(model, torch.from_numpy(pixels)[None], one, other, 1)
    assert not np.array_equal(inputs[0], inputs[1])


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("arafed man in a boat", "man in a boat"),
        ("there is a arafed woman with a hat", "there is a woman with a hat"),
        ("araffe standing in the grass", "standing in the grass"),
        ("a close up of an araffe on a beach", "a close up of on a beach"),
        ("two araffes", "two"),
        ("a giraffe and a parafed", "a giraffe and a parafed"),
    ],
)
def test_nonsense_words_are_removed(said: str, kept: str) -> None:
    assert without_nonsense(said) == kept
