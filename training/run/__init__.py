"""A run's folder: what it was begun with, checkpoints, logs, the model card."""
