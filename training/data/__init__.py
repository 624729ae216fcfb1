"""From tables to batches: which rows, in which order, read and decoded."""
