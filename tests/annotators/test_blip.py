import numpy as np
import pytest
import torch
from controlmill.annotators.blip import BaseCaption, BlipBase, BlipBaseBeams, without_nonsense

from .running import annotate


@pytest.mark.parametrize("network", [BlipBase, BlipBaseBeams], ids=lambda network: network.name)
def test_tokens_equal_reference(load, photos, weights_folder, network):
    from tokenizers import Tokenizer
    from transformers import BlipForConditionalGeneration, BlipImageProcessor

    folder = weights_folder / "blip-image-captioning-base"
    loaded = load(network)
    reference = BlipForConditionalGeneration.from_pretrained(folder).eval()
    processor = BlipImageProcessor()
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    images = photos(256)
    captions = [annotation.map for annotation in annotate(BaseCaption(), loaded, images, batch=3)]
    for i, image in enumerate(images):
        with torch.no_grad():
            pixels = processor(image, return_tensors="pt")["pixel_values"]
            expected = reference.generate(pixels, max_new_tokens=20, num_beams=network.beams, do_sample=False)[0]
        found = loaded.forward([loaded.preprocess(image)])[0]
        ended = [token for token in expected.tolist()[1:] if token != 0]
        assert found == [token for token in ended if token != 3205]
        assert captions[i] == words.decode(found)
    assert len(set(captions)) > 1


def test_batch_is_singles(load, photos):
    network = load(BlipBase)
    inputs = [network.preprocess(image) for image in photos(256)]
    singles = [network.forward([one])[0] for one in inputs]
    assert network.forward(inputs) == singles
    assert len({len(tokens) for tokens in singles}) > 1, "captions of one length do not test the padding"
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
def test_nonsense_words_are_removed(said, kept):
    assert without_nonsense(said) == kept
