"""GetProduct from memory, on the mesh's gRPC entrypoint."""

from nameko_mesh.grpc import Grpc
from protos import product_pb2 as pb
from protos.product_pb2_grpc import ProductServiceStub

grpc = Grpc.implementing(ProductServiceStub)


class MeshProducts:
    name = "mesh_products"

    @grpc
    def GetProduct(self, request, context):
        return pb.ProductResponse(id=request.product_id, name="Laptop", price=1200.5, stock=10)
