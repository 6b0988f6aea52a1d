"""The products service on FastAPI, in one process because the stock is in its memory."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from bench.catalogue import PRICE_MINOR, PRODUCTS, STOCK

app = FastAPI()


class Product(BaseModel):
    id: str
    name: str
    price: float
    stock: int


class Quantity(BaseModel):
    quantity: int


products = {
    product_id: Product(id=product_id, name=f"Product {product_id}", price=PRICE_MINOR / 100, stock=STOCK)
    for product_id in PRODUCTS
}


@app.get("/products/{product_id}")
async def get_product(product_id: str) -> Product:
    if product_id not in products:
        raise HTTPException(404, "Product not found")
    return products[product_id]


@app.post("/products/{product_id}/reserve")
async def reserve(product_id: str, requested: Quantity) -> Product:
    product = await get_product(product_id)
    if product.stock < requested.quantity:
        raise HTTPException(409, "Out of stock")
    product.stock -= requested.quantity
    return product
