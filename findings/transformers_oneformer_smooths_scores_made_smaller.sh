#!/usr/bin/env bash
# transformers 5.23.0, with torch 2.14.1 and torchvision 0.29.1
#
# What: post_process_semantic_segmentation takes target_sizes. OneFormer's resizes the classes' scores by torchvision's
#   resize, whose antialiasing is on by default, so scores that are made smaller are smoothed first. SegFormer's (and
#   Mask2Former's) call interpolate, without antialiasing, as the authors of OneFormer do in their own code.
# Seen: the same scores of 3 classes, 64x64 made 16x16: OneFormer's ids are those of antialiased scores at every pixel,
#   and those of SegFormer's at two thirds of them. At 64x64 and larger the two agree.
# Guessed: one library resizes scores in one way, so that the same scores have the same ids.
#
# It matters for labels of pictures smaller than the network's scores: ids differ between models and from the originals.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.14.1 torchvision==0.29.1
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
from types import SimpleNamespace

import torch
from torch.nn.functional import interpolate
from transformers import OneFormerImageProcessor, SegformerImageProcessor

generator = torch.Generator().manual_seed(0)
classes = torch.randn(1, 6, 4, generator=generator)
masks = 4 * torch.randn(1, 6, 64, 64, generator=generator)
scores = torch.einsum("bqc,bqhw->bchw", classes.softmax(-1)[..., :-1], masks.sigmoid())
of_oneformer = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
# the method uses nothing of the processor, which would ask the hub for its class names
oneformer = object.__new__(OneFormerImageProcessor)
agree = {}
for side in (16, 64, 128):
    size = (side, side)
    (ids,) = oneformer.post_process_semantic_segmentation(of_oneformer, [size])
    (others,) = SegformerImageProcessor().post_process_semantic_segmentation(SimpleNamespace(logits=scores), [size])
    smooth = interpolate(scores, size=size, mode="bilinear", align_corners=False, antialias=True)[0].argmax(0)
    agree[side] = [round(float((ids == those).float().mean()), 3) for those in (others, smooth)]
print("share of pixels as SegFormer's, and as of antialiased scores:", agree)
assert agree[16][0] < 0.8, agree
assert agree[16][1] > 0.99, agree
assert agree[64][0] > 0.99, agree
assert agree[128][0] > 0.99, agree
PY
