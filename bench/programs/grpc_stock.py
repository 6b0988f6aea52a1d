"""GetProduct from memory, on stock nameko-grpc."""

from nameko_grpc.entrypoint import Grpc

from protos import product_pb2 as pb
from protos.product_pb2_grpc import ProductServiceStub

grpc = Grpc.implementing(ProductServiceStub)


class StockProducts:
    name = "stock_products"

    @grpc
    def GetProduct(self, request, context):
        return pb.ProductResponse(id=request.product_id, name="Laptop", price=1200.5, stock=10)
