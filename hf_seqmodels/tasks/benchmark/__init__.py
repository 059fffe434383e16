"""Benchmarks: ours and its peers in one process, interleaved. `scripts/benchmark.py` runs them."""
