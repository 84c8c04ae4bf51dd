"""Questions and their answers: one folder each, run as ``python -m benchmarks.NAME``."""
