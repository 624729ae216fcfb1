"""Stages of a job: ingest, annotate, import maps, encode, captions."""
