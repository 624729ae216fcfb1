"""The paper's claims at toy scale: a synthetic corpus, the tiny base, and verdicts that a program computes.

experiments.py   which trainings there are, as data
corpus.py        the corpus, in which shape predicts colour; the pictures that are sampled to measure with
prompts.py       none, insufficient, conflicting, full
judge.py         a small network that labels pictures of the corpus and says their depth
training.py      one training: the command, and then what is measured of it
measurements.py  what is measured
results.py       what is kept of a finished training: a small JSON file
claims.py        what the paper says, as a quantity of each seed
verdicts.py      reproduced, not reproduced or undecided, from the interval over the seeds that are there
page.py          docs/reproduce.md
"""
