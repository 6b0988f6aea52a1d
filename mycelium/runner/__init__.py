"""Starts the mesh, supervises it and stops it."""
