"""ControlMill: from a heap of images to a trained ControlNet."""

__version__ = "0.1.0"
