"""A wait until the stock services answer."""

from nameko_mesh.errors import MeshError
from tests.waiting import eventually_async

PATIENCE = 30.0


async def answering(client):
    """Wait until the stock services take calls. Their queue exists only after their first start."""
    await eventually_async(lambda: _answers(client), PATIENCE, "an answer of the stock services")


async def _answers(client):
    try:
        return await client.call("stock", "echo", {"value": True}, timeout=1.0)
    except MeshError:
        return False
