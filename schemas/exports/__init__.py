"""Copies of a dataset in the layouts of other trainers and of the Hub, made of tables alone: no Beam, no torch."""
