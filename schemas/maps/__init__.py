"""Condition maps: what a file's values mean, label sets, and what happens to a map and its picture together."""
