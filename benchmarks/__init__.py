"""Measurements: ratios against peers, side by side in one run. Timings never decide a test."""
