"""Small benchmarks of single tricks, each beside the plain way."""
