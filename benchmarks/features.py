"""FID's features of the pictures of a dataset against clean-fid's of the same files, on a CPU.

clean-fid is given pytorch-fid's network, since its own file is not on the machine; both networks have the same random
weights. It needs an environment with clean-fid and pytorch-fid beside ControlMill's packages: --peer PYTHON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.corpus import repeat, write_photographs
from controlmill.schemas.fingerprint import processor_name

DATA = Path(__file__).parent / "data"
SIDE = 512
DIMENSIONS = 64  # of the features that FID is compared on: it takes more pictures than dimensions


def write_weights(path: Path) -> None:
    """The real InceptionV3 with random weights whose signal does not die away."""
    import torch

    from controlmill.evaluation.features.inception_blocks import fid_inception

    torch.manual_seed(0)
    model = fid_inception(1008)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    torch.save(model.state_dict(), path)


def make_dataset(count: int) -> tuple[Path, Path]:
    """(dataset, folder of its stored files in the order of their rows), made once."""
    from controlmill.schemas.dataset import Dataset
    from controlmill.schemas.files.shardfile import read_rows

    dataset, files = DATA / f"features-{count}", DATA / f"features-{count}-files"
    if files.exists() and len(list(files.iterdir())) == count:
        return dataset, files
    once = min(count, 250)
    photos = write_photographs(DATA / f"photographs-{once}", once)
    corpus = repeat(photos, DATA / f"photographs-{count}-of-{once}", count // once)
    words = ["ingest", str(corpus), str(dataset), "--resolution", str(SIDE), "--shard-size", "256"]
    subprocess.run([sys.executable, "-m", "controlmill", *words], check=True)
    files.mkdir(exist_ok=True)
    opened, number = Dataset.open(dataset), 0
    for shard in range(opened.shards):
        with opened.parquet("images", shard) as parquet:
            for row in read_rows(parquet, ["image"]):
                (files / f"{number:08d}.jpg").write_bytes(row["image"]["bytes"])
                number += 1
    return dataset, files


def ours(dataset: Path, weights: Path, threads: int) -> np.ndarray:
    """Features by the step that a job runs, (N, 2048)."""
    from controlmill.annotators.runtime.placement import Placement
    from controlmill.evaluation.features.catalogue import find_feature_weights
    from controlmill.evaluation.features.inception import Inception
    from controlmill.pipelines.engine.rows import run_rows
    from controlmill.pipelines.stages.features import FeatureStep
    from controlmill.schemas.dataset import Dataset
    from controlmill.schemas.files.shardfile import read_rows

    found, _ = find_feature_weights(["fid"], str(weights))
    step = FeatureStep("inception", found, Placement("cpu", "fp32", Inception.cpu_batch, threads))
    opened, rows = Dataset.open(dataset), []
    for shard in range(opened.shards):
        with opened.parquet("images", shard) as parquet:
            stored = read_rows(parquet, ["key", "image", "width", "height"])
            rows += [row["inception"]["features"] for row in run_rows(step, stored, threads, lambda: None)]
    return np.stack(rows)


def theirs(files: Path, weights: Path, threads: int) -> np.ndarray:
    """clean-fid's features of a folder, (N, 2048)."""
    import torch
    from cleanfid.fid import get_folder_features
    from pytorch_fid import inception

    torch.set_num_threads(threads)
    state = torch.load(weights / "pt_inception-2015-12-05-6726825d.pth", weights_only=True)
    inception.load_state_dict_from_url = lambda *_, **__: state
    model = inception.InceptionV3([3], resize_input=False, normalize_input=False).eval()

    def features(batch: torch.Tensor) -> torch.Tensor:
        return model((batch - 128) / 128)[0][:, :, 0, 0]

    device = torch.device("cpu")
    found: np.ndarray = get_folder_features(
        str(files), features, num_workers=threads, batch_size=32, device=device, verbose=False
    )
    return found


WAYS: dict[str, Callable[[Path, Path, int], np.ndarray]] = {"ControlMill": ours, "clean-fid": theirs}


def timed(python: str, way: str, place: Path, weights: Path, threads: int, out: Path) -> tuple[float, float]:
    """(seconds, seconds of processors) of the work, in a process of its own; imports are not counted."""
    words = [python, "-m", "benchmarks.features", "--do", way, str(place), str(weights), str(threads), str(out)]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    seconds, processor = json.loads(ended.stdout.splitlines()[-1])
    return seconds, processor


def main() -> None:
    """Print the ratios, and whether the numbers agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="photographs, a multiple of 250 or fewer than that")
    parser.add_argument("--rounds", type=int, default=1, help="of each; medians are compared")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer", help="Python of an environment that has clean-fid and pytorch-fid too")
    parser.add_argument("--do", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.do:
        way, place, weights, threads, out = arguments.do
        import torch  # noqa: F401
        import torchvision  # noqa: F401

        before, processor = time.perf_counter(), sum(os.times()[:4])
        found = WAYS[way](Path(place), Path(weights), int(threads))
        print(json.dumps([time.perf_counter() - before, sum(os.times()[:4]) - processor]))
        np.save(out, found)
        return
    if not arguments.peer:
        print("features: --peer PYTHON names an environment with clean-fid and pytorch-fid; nothing is compared")
        return
    weights = DATA / "features-weights"
    weights.mkdir(parents=True, exist_ok=True)
    write_weights(weights / "pt_inception-2015-12-05-6726825d.pth")
    dataset, files = make_dataset(arguments.count)
    places = {"ControlMill": (sys.executable, dataset), "clean-fid": (arguments.peer, files)}
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way, (python, place) in places.items():
            out = DATA / f"features-{way}.npy"
            times[way].append(timed(python, way, place, weights, arguments.threads, out))
    print(f"{processor_name()}, {arguments.threads} threads; {arguments.count} pictures of {SIDE} pixels")
    seconds = {way: [statistics.median(column) for column in zip(*runs, strict=True)] for way, runs in times.items()}
    for way, (clock, processor) in seconds.items():
        print(f"  {way}: {arguments.count / clock:.1f} images/s, {processor:.1f} s of processors")
    one, other = seconds["ControlMill"], seconds["clean-fid"]
    print(f"  {other[0] / one[0]:.2f} times as fast by the clock, {other[1] / one[1]:.2f} by processor seconds")
    _compare(*(np.load(DATA / f"features-{way}.npy") for way in WAYS))


def _compare(found: np.ndarray, expected: np.ndarray) -> None:
    """Print by how much features, and FID between two halves of the set, differ."""
    from controlmill.evaluation.features.distances import fid

    apart = np.abs(found - expected).max() / np.abs(expected).max()
    # every other row: the corpus is the same pictures again and again
    one, other = (fid(rows[::2, :DIMENSIONS], rows[1::2, :DIMENSIONS]) for rows in (found, expected))
    print(f"  features differ by {apart:.1e} of the largest; FID of {DIMENSIONS} of them by {abs(one / other - 1):.1e}")


if __name__ == "__main__":
    main()
