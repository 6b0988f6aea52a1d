"""The orders service on Django. Each worker keeps its own orders in memory."""

from __future__ import annotations

import json
import os
import uuid

import requests
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

USERS_URL = os.environ["USERS_URL"]
PRODUCTS_URL = os.environ["PRODUCTS_URL"]
TIMEOUT_SECONDS = 10

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY="of the tutorial")

orders: dict[str, dict] = {}


@csrf_exempt
@require_POST
def create_order(request):
    order_request = json.loads(request.body)
    user = requests.get(f"{USERS_URL}/users/{order_request['user_id']}", timeout=TIMEOUT_SECONDS)
    if user.status_code != 200:
        return JsonResponse({"error": "User not found"}, status=404)
    reserve = f"{PRODUCTS_URL}/products/{order_request['product_id']}/reserve"
    product = requests.post(reserve, json={"quantity": order_request["quantity"]}, timeout=TIMEOUT_SECONDS)
    if product.status_code != 200:
        return JsonResponse(product.json(), status=product.status_code)
    order = {
        "order_id": str(uuid.uuid4()),
        "user": user.json(),
        "product": {"id": product.json()["id"], "name": product.json()["name"]},
        "quantity": order_request["quantity"],
        "total_price": product.json()["price"] * order_request["quantity"],
    }
    orders[order["order_id"]] = order
    return JsonResponse(order, status=201)


urlpatterns = [path("orders", create_order)]
application = get_wsgi_application()
