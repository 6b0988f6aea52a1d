"""HTTP as such: request limits, bodies and problems."""
