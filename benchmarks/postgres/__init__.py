"""Measurements on a PostgreSQL that the benchmark starts, or that the environment names."""
