"""The routes, one module for each kind of thing: decode, ask a service, encode."""
