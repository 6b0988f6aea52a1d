"""An echo on the mesh's RPC entrypoint."""

from nameko_mesh.rpc import rpc


class MeshEcho:
    name = "mesh_echo"

    @rpc
    def echo(self, value):
        return value
