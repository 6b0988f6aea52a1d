"""The baselines, written for this comparison in the style of common tutorials."""
