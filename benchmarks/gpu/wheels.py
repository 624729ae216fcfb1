"""What each part needs beside PyTorch: said before it runs, and downloaded beforehand by `make gpu-wheels`.

    python -m benchmarks.gpu.wheels training wheels --python 3.12 --have numpy pillow pyarrow

The versions are those of requirements.lock. PyTorch and torchvision are the machine's.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[2] / "requirements.lock"
PLATFORMS = ("2_28", "2_27", "2_26", "2_24", "2_17", "2014", "1")

COMMON = {  # distribution → what is imported of it
    "numpy": "numpy",
    "pillow": "PIL",
    "opencv-python-headless": "cv2",
    "cykooz-resizer": "cykooz_resizer",
    "safetensors": "safetensors",
    "huggingface-hub": "huggingface_hub",
    "pyyaml": "yaml",
    "tqdm": "tqdm",
    "packaging": "packaging",
    "httpx2": "httpx2",
    "httpcore2": "httpcore2",
    "h11": "h11",
    "anyio": "anyio",
    "idna": "idna",
    "certifi": "certifi",
    "truststore": "truststore",
    "typing-extensions": "typing_extensions",
}
CONSOLE = {
    "rich": "rich",
    "markdown-it-py": "markdown_it",
    "mdurl": "mdurl",
    "pygments": "pygments",
    "typer": "typer",
    "shellingham": "shellingham",
    "annotated-doc": "annotated_doc",
    "click": "click",
}
TRANSFORMERS = {"transformers": "transformers", "tokenizers": "tokenizers", "regex": "regex"}
HED = {
    "controlnet-aux": "controlnet_aux",
    "einops": "einops",
    "importlib-metadata": "importlib_metadata",
    "zipp": "zipp",
}
OTHER_NETWORKS = {
    "timm": "timm",
    "scipy": "scipy",
    "scikit-image": "skimage",
    "lazy-loader": "lazy_loader",
}
TABLES = {
    "pyarrow": "pyarrow",
    "fsspec": "fsspec",
    "pydantic": "pydantic",
    "pydantic-core": "pydantic_core",
    "annotated-types": "annotated_types",
    "typing-inspection": "typing_inspection",
}
DIFFUSION = {
    "diffusers": "diffusers",
    "accelerate": "accelerate",
    "psutil": "psutil",
    "requests": "requests",
    "urllib3": "urllib3",
    "charset-normalizer": "charset_normalizer",
    "importlib-metadata": "importlib_metadata",
    "zipp": "zipp",
}
BEAM = {
    "apache-beam": "apache_beam",
    "grpcio": "grpc",
    "protobuf": "google.protobuf",
    "proto-plus": "proto",
    "cryptography": "cryptography",
    "cffi": "cffi",
    "pycparser": "pycparser",
    "fastavro": "fastavro",
    "fasteners": "fasteners",
    "httplib2": "httplib2",
    "pyparsing": "pyparsing",
    "jsonpickle": "jsonpickle",
    "objsize": "objsize",
    "pymongo": "pymongo",
    "dnspython": "dns",
    "python-dateutil": "dateutil",
    "six": "six",
    "pytz": "pytz",
    "requests": "requests",
    "urllib3": "urllib3",
    "charset-normalizer": "charset_normalizer",
    "sortedcontainers": "sortedcontainers",
    "zstandard": "zstandard",
    "beartype": "beartype",
    "cloudpickle": "cloudpickle",
    "dill": "dill",
}
PARTS = {
    "annotators": COMMON | CONSOLE | TRANSFORMERS | HED | OTHER_NETWORKS,
    "training": COMMON | CONSOLE | TRANSFORMERS | TABLES | DIFFUSION,
    "jobs": COMMON | CONSOLE | TABLES | HED | BEAM,
}
OF_SOME_CASES = {  # without which the others run
    "annotators": {**TRANSFORMERS, **OTHER_NETWORKS, "torchvision": "torchvision"},
    "training": {"torchvision": "torchvision"},
    "jobs": {"torchvision": "torchvision"},
}


def missing(part: str) -> list[str]:
    """The distributions without which a part does not begin, as far as this Python lacks them."""
    return [name for name, module in PARTS[part].items() if name not in OF_SOME_CASES[part] and is_absent(module)]


def missing_of_some(part: str) -> list[str]:
    """Those without which some cases do not run."""
    return [name for name, module in OF_SOME_CASES[part].items() if is_absent(module)]


def is_absent(module: str) -> bool:
    """Whether there is no such module here; nothing is imported but its parents."""
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # of a parent
        return True


def pinned(names: list[str]) -> list[str]:
    """``name==version``, as requirements.lock has them; of several versions the first, which is for this Python."""
    found: dict[str, str] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^ ;]+)", LOCK.read_text(encoding="utf-8"), re.M):
        found.setdefault(name, version)
    return [f"{name}=={found[name]}" for name in names]


def download(part: str, folder: Path, python: str, have: list[str]) -> int:
    """Wheels for a part, x86-64 Linux; returns their bytes.

    Raises:
        subprocess.CalledProcessError: pip could not get one.
    """
    names = [name for name in PARTS[part] if name not in have]
    flags = [
        "--no-deps",
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={python}",
        "--dest",
        str(folder),
    ]
    flags += [f"--platform=manylinux{number if '_' not in number else f'_{number}'}_x86_64" for number in PLATFORMS]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        *flags,
        *pinned(names),
    ]
    subprocess.run(command, check=True)
    return sum(path.stat().st_size for path in folder.glob("*.whl"))


def main() -> None:
    """Download, and print the size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("folder", type=Path, help="its subfolder PART-cp3XX gets the wheels")
    parser.add_argument("--python", default="3.12", help="of the machine with the GPU")
    parser.add_argument("--have", nargs="*", default=[], help="what the machine has already")
    arguments = parser.parse_args()
    folder = arguments.folder / f"{arguments.part}-cp{arguments.python.replace('.', '')}"
    size = download(arguments.part, folder, arguments.python, arguments.have)
    print(f"{folder}: {size / 2**20:.1f} MiB of wheels")


if __name__ == "__main__":
    main()
