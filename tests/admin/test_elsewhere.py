"""What is said of listeners of some nodes. In a fleet that is a real one, on a PostgreSQL of the tests' own."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from mcproxy.admin import elsewhere, mutations
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.writer import Mutated
from mcproxy.model import Listener
from tests.kit.commands import shell
from tests.kit.control_plane import running
from tests.kit.fleet_nodes import Node
from tests.kit.peers import DEADLINE
from tests.kit.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.fixture
def node(postgres: PostgresServer, tmp_path: Path) -> Iterator[Node]:
    with closing(Node(postgres.create(f"db_{uuid.uuid4().hex}"), "edge1", tmp_path)) as made:
        yield made.follows()


def put(node: Node, listener: Listener, *, exists: bool = False) -> Mutated:
    return node.writer.mutate("a test", "listener", mutations.put_listener(listener, exists=exists))


def test_a_server_in_no_fleet_refuses_nodes_and_names_the_remedy(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        told = user.fails(2, "listeners", "add", ":8443", "--node", "edge1")
        assert told == f"mcproxy: --node: {elsewhere.NO_FLEET}"
        assert user.fails(2, "listeners", "set", ":443", "--node", "edge1") == told
        seed = tmp_path / "seed.toml"
        seed.write_text('[[listeners]]\naddr = ":443"\n\n[[listeners]]\naddr = ":8443"\nnodes = ["edge1"]\n')
        assert user.fails(2, "apply", seed).endswith(f"{seed}: listeners[1].nodes: {elsewhere.NO_FLEET}")
        assert control.writer.table.generation == 1


def test_nodes_that_a_restored_database_names_may_stay(tmp_path: Path) -> None:
    """It was a fleet's; such a server listens everywhere, and its listeners can still be changed."""
    with running(tmp_path, seed=[(Listener(":443", nodes=("edge1",)), [])]) as control:
        request = pb.UpdateListenerRequest(listener=pb.Listener(addr=":443", max_connections=5))
        request.update_mask.paths.append("max_connections")
        assert control.stub.UpdateListener(request, timeout=DEADLINE).generation == 2
        request = pb.UpdateListenerRequest(listener=pb.Listener(addr=":443", nodes=["edge2"]))
        request.update_mask.paths.append("nodes")
        with pytest.raises(grpc.RpcError, match=r"only a fleet has nodes"):
            control.stub.UpdateListener(request, timeout=DEADLINE)


def test_an_address_that_this_node_lacks_is_a_warning_and_the_change_is_made(node: Node) -> None:
    node.plane.fail["bind_listener"] = OSError(99, "Cannot assign requested address")
    made = put(node, Listener("192.0.2.1:8443"))
    assert made.generation == 2
    why = "can't listen on 192.0.2.1:8443: this machine has no such address"
    assert elsewhere.warnings(node.writer, made.changes) == [f"this node, edge1, serves without it for now: {why}"]
    assert elsewhere.absence(node.writer, "192.0.2.1:8443") == why
    assert elsewhere.absence(node.writer, ":443") == ""


def test_a_node_that_nobody_knows_is_a_warning(node: Node) -> None:
    made = put(node, Listener(":8443", nodes=("edge1", "egde2")))
    assert elsewhere.warnings(node.writer, made.changes) == [
        "the fleet has no node egde2 yet: `mcproxy nodes` lists them"
    ]
    made = put(node, Listener(":8443", max_connections=5, nodes=("edge1", "egde2")), exists=True)
    assert elsewhere.warnings(node.writer, made.changes) == (), "what is not new has been said"


def test_a_listener_of_other_nodes_is_named_as_theirs(node: Node) -> None:
    put(node, Listener(":8443", nodes=("edge2", "edge3")))
    said = elsewhere.absence(node.writer, ":8443")
    assert said == ":8443 is a listener of edge2, edge3, and this node is edge1: ask there"
