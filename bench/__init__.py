"""Benchmarks of the real mesh beside its baselines, on one machine.

    python -m bench --quick --only orders    measure one suite
    python -m bench --render                 write docs/performance.md from docs/performance.json

`suites` says what is measured, `stacks` and `baselines` what is compared, and `targets` the ratios to reach.
"""
