import hashlib

import pytest
from controlmill.annotators import weights
from controlmill.annotators.transformers_model import model_files
from controlmill.annotators.weights import WeightsFile
from controlmill.schemas.errors import MillError


def test_files_of_a_repository_lie_in_their_folder(tmp_path):
    config, model = model_files("someone/some-model", "0" * 40, "MIT", ("model.safetensors", 3.0), model="1" * 64)
    assert (config.name, config.hub_name) == ("some-model/config.json", "config.json")
    assert (model.name, model.hub_name) == ("some-model/model.safetensors", "model.safetensors")
    (tmp_path / "some-model").mkdir()
    (tmp_path / config.name).write_text("{}")
    found, missing = weights.find([config, model], str(tmp_path), download=False)
    assert missing == [model]
    assert found[0].sha256 == hashlib.sha256(b"{}").hexdigest()
    assert found[0].origin == f"someone/some-model@{'0' * 40}, sum not pinned"
    assert found[0].licence == "MIT"


def test_the_cache_is_asked_for_the_name_on_the_hub(monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args, **kwargs: asked.append((args, kwargs)))
    file = WeightsFile("a/model.safetensors", "someone/a", "0" * 40, None, 1.0, "MIT", remote="model.safetensors")
    weights.find([file], None, download=False)
    assert asked == [(("someone/a", "model.safetensors"), {"revision": "0" * 40})]


def test_missing_weights_say_where_they_go():
    file = WeightsFile("a/model.safetensors", "someone/a", "0" * 40, None, 1.0, "MIT", remote="model.safetensors")
    message = weights.missing_message([("depth", file)], "folder")
    assert "model.safetensors of someone/a at revision 000" in message
    assert "FOLDER/a/model.safetensors" in message


def test_weights_that_do_not_fit_are_named(tmp_path):
    import torch
    from controlmill.annotators.base import Placement
    from controlmill.annotators.segmentation import SegFormer
    from safetensors.torch import save_file
    from transformers import SegformerConfig

    folder = tmp_path / "segformer-b0-finetuned-ade-512-512"
    SegformerConfig(num_labels=150).save_pretrained(folder)
    save_file({"nothing": torch.zeros(1)}, folder / "model.safetensors")
    files = {file.name: tmp_path / file.name for file in SegFormer.weights}
    with pytest.raises(MillError, match="does not fit SegformerForSemanticSegmentation"):
        SegFormer(files, Placement())
