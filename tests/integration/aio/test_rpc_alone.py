"""The examples of docs/extending.md: RPC and the asyncio client, without any other part of the mesh."""

import json
import sys
from types import ModuleType

import pytest

from mycelium.servers import Program, running
from nameko_mesh.aio import RpcClient
from nameko_mesh.errors import MeshError
from tests.examples import python_blocks
from tests.waiting import eventually_async


def block_with(name):
    (block,) = [block for block in python_blocks("docs/extending.md") if name in block]
    return block


@pytest.fixture(scope="module")
def balances(broker, tmp_path_factory):
    """Run the services of the example as `nameko run` runs them, in Nameko's own container."""
    folder = tmp_path_factory.mktemp("balances")
    (folder / "balances.py").write_text(block_with("BalancesService"))
    (folder / "config.yml").write_text(json.dumps({"AMQP_URI": broker.amqp_uri}))
    program = Program(
        name="balances",
        command=(sys.executable, "-m", "nameko", "run", "--config", "config.yml", "balances"),
        directory=folder,
    )
    with running(program, log_dir=folder):
        yield


async def test_asyncio_client_of_the_example_calls_the_services_of_the_example(broker, balances, capsys):
    async with RpcClient(broker.amqp_uri, name="waiter") as client:
        await eventually_async(lambda: answers(client), seconds=30)
    program = ModuleType("program")
    exec(block_with("RpcClient"), vars(program))

    await program.main(broker.amqp_uri)

    assert capsys.readouterr().out == "70\nnot-enough A1 has only 100\n"


async def test_refusal_keeps_its_slug_from_service_to_service(broker, balances):
    async with RpcClient(broker.amqp_uri, name="waiter") as client:
        await eventually_async(lambda: answers(client), seconds=30)
        paid = await client.call("teller", "pay", {"account_id": "A1", "amount": 300}, timeout=5.0)

    assert paid == {"account_id": "A1", "refused": "not-enough"}


async def answers(client):
    try:
        return await client.call("teller", "pay", {"account_id": "A1", "amount": 0}, timeout=1.0)
    except MeshError:
        return False
