"""The benchmarks: the real mesh beside its baselines, in one run, on one machine.

    python -m bench --quick --only orders

measures nothing but what a run has measured, and says which ratios were reached (bench.targets).
"""
