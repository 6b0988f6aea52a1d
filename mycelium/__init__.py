"""The command line: starts the mesh and its private servers, shows and mends what runs."""
