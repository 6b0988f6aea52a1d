"""The gateway: HTTP in, Nameko RPC out; it holds no state that a restart would miss.

It runs on asyncio in a process of its own, which must never be monkey-patched: nothing here
imports eventlet, Nameko or kombu.
"""
