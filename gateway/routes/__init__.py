"""The routes, a module for each resource. A route decodes a request, calls a service, encodes the result."""
