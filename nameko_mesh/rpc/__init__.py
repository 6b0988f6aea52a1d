"""RPC over Nameko's protocol.

    from nameko_mesh.rpc import rpc              in place of nameko.rpc.rpc
    from nameko_mesh.rpc import ServiceClient    in place of nameko.rpc.ServiceRpc

`entrypoint` receives requests and starts workers, `responder` sends the replies, `client` calls other
services.
"""

from nameko_mesh.rpc.client import ServiceClient
from nameko_mesh.rpc.entrypoint import rpc

__all__ = ["ServiceClient", "rpc"]
