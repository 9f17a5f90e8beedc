"""dataset without alembic, which comes with the first migration and not before: in processes of their own."""

import subprocess
import sys
from pathlib import Path

OPEN = """
import sys
from pathlib import Path
from mcproxy.store.store import Store
Store.open(Path(sys.argv[1])).close()
print(*sorted({"alembic", "dataset", "mako", "sqlalchemy"} & sys.modules.keys()))
"""


def loaded_to_open(path: Path) -> str:
    done = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_only_a_process_that_migrates_has_alembic(tmp_path: Path) -> None:
    assert loaded_to_open(tmp_path / "mcproxy.db") == "alembic dataset mako sqlalchemy"
    assert loaded_to_open(tmp_path / "mcproxy.db") == "dataset sqlalchemy"


def test_the_real_alembic_is_there_for_others() -> None:
    program = (
        "from mcproxy.store.alembic_later import dataset; import dataset.database; "
        "print(dataset.database.Operations); from alembic.operations import Operations; print(Operations)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "<Later alembic.operations.Operations>", "<class 'alembic.operations.base.Operations'>",
    ]  # fmt: skip
