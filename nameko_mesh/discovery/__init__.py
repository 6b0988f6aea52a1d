"""Discovery: how services find each other through Consul.

`consul_watch` follows the instances of a service, without I/O. `consul_registration` registers an instance.
`address` parses addresses. `instances` is the extension for Nameko services.

Import from these modules: this package imports nothing, because asyncio programs use all but `instances`
without eventlet and Nameko.
"""

__all__: list[str] = []
