"""`python -m mycelium`."""

from mycelium.cli import app

app()
