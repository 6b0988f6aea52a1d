"""Run the command line with `python -m mycelium`."""

from mycelium.cli.app import app

if __name__ == "__main__":
    app()
