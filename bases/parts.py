"""Parts of the pipelines that diffusers has for Stable Diffusion, by their names there."""

from __future__ import annotations

ONE_TEXT = {"text_encoder": "tokenizer"}  # text encoders, each with its tokenizer; of 1.x and 2.x
TWO_TEXTS = {**ONE_TEXT, "text_encoder_2": "tokenizer_2"}  # of XL
UNCHECKED = {"safety_checker": None, "feature_extractor": None}  # in place of parts that are not used
