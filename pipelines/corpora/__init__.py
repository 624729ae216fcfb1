"""Corpora: where pictures and their captions come from."""
