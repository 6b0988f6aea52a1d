"""Benchmarks of the real mesh beside its baselines, on one machine.

    python -m bench --quick --only orders    measure one suite
    python -m bench --render                 write docs/performance.md from the figures that are there

`suites` holds what is measured, `stacks` and `baselines` what is compared, and `targets` the ratios to reach.
"""
