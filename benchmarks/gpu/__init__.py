"""Measurements on a machine with an NVIDIA GPU: `make gpu PART=annotators|training|jobs`."""
