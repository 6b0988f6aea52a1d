"""The process of a service: its container, its health checks and its registration with Consul.

    SERVICE_CONTAINER_CLS: nameko_mesh.runtime.Container     in the configuration
    presence = Presence()                                    in the service class

`container` starts and stops a service. `presence` serves health over HTTP and registers with Consul.
`probes` checks the consumers and the database.
"""

from nameko_mesh.runtime.container import Container
from nameko_mesh.runtime.presence import Presence

__all__ = ["Container", "Presence"]
