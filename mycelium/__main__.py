"""`python -m mycelium`."""

from mycelium.cli.app import app

app()
