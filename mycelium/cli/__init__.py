"""The `mycelium` command line: one module per group of commands, assembled in `app`."""
