"""Start the mesh, supervise its processes, and stop it."""
