"""Clusters of other engines: what each is asked, and told."""
