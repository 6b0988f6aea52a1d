"""RPC over Nameko's protocol.

    from nameko_mesh.rpc import rpc              in place of nameko.rpc.rpc
    from nameko_mesh.rpc import ServiceClient    in place of nameko.rpc.ServiceRpc

`entrypoint` serves calls, `client` makes them.
"""

from nameko_mesh.rpc.client import ServiceClient
from nameko_mesh.rpc.entrypoint import rpc

__all__ = ["ServiceClient", "rpc"]
