"""The HTTP gateway in front of the Nameko services. It stores nothing: its caches end with the process.

The gateway runs on asyncio, in a process of its own that must not be monkey-patched. Nothing in this package
imports eventlet, Nameko or kombu. The packages stand in layers, from the top down:

    __main__                        the process: sockets, uvicorn, signals
    app                             builds the application from its parts
    fast_path                       answers the two busiest routes in front of FastAPI
    routes                          decode a request, call a service, encode the response
    lifecycle                       starts, drains and stops the connections
    clients auth order_events       calls of the services; tokens and logins; events of orders
    schemas consul metrics          bodies; the entry in Consul; the figures for Prometheus
    web                             problems (RFC 9457), JSON bodies, limits of a request
    settings                        environment variables
"""
