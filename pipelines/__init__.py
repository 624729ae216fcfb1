"""A corpus to tables, on Apache Beam: listing, shards, ingest, annotate, runners, progress."""
