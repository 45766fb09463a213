"""Measurements of speed, as ratios to a baseline that runs in the same process at the same time."""
