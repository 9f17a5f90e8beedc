"""The nursery's own process: alone in itself, so that it can fork."""

import subprocess
import sys


def test_it_has_no_thread_no_hub_and_nothing_of_the_control_plane() -> None:
    """None of these survives a fork, and each would cost every worker memory."""
    program = """
import sys, threading
from mcproxy.workers import nursery
from gevent._hub_local import get_hub_if_exists
control = {"grpc", "sqlite3", "sqlalchemy", "alembic", "dataset", "textual", "rich", "pydantic"}
print(threading.active_count(), get_hub_if_exists(), sorted(control & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 None []"
