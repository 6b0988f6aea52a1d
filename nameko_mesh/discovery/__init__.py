"""Discovery: how services find each other through Consul.

`consul_watch` follows the instances of a service, `consul_registration` registers an instance, `address`
parses addresses; `instances` is the Nameko extension.

Import from these modules: this package imports nothing, because asyncio programs use all but `instances`
without eventlet and Nameko.
"""

__all__: list[str] = []
