"""dataset without what it imports for others, in processes of their own."""

import subprocess
import sys
from pathlib import Path

OPEN = """
import sys
from pathlib import Path
from mcproxy.store.store import Store
Store.open(Path(sys.argv[1])).close()
OTHERS = {"alembic", "dataset", "mako", "sqlalchemy", "sqlalchemy.dialects.postgresql",
          "sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.sqlite.pysqlcipher"}
print(*sorted(OTHERS & sys.modules.keys()))
"""


def loaded_to_open(path: Path) -> str:
    done = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_database_is_made_and_opened_without_the_others(tmp_path: Path) -> None:
    assert loaded_to_open(tmp_path / "mcproxy.db") == "dataset sqlalchemy"
    assert loaded_to_open(tmp_path / "mcproxy.db") == "dataset sqlalchemy"


def test_the_real_ones_are_there_for_others() -> None:
    program = (
        "from mcproxy.store.dataset_alone import dataset; import dataset.database, dataset.types; "
        "print(dataset.database.Operations); from alembic.operations import Operations; print(Operations); "
        "print(dataset.types.JSONB, dataset.types.JSONB().__class__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "<Later alembic.operations.Operations>", "<class 'alembic.operations.base.Operations'>",
        "<Later sqlalchemy.dialects.postgresql.JSONB> <class 'sqlalchemy.dialects.postgresql.json.JSONB'>",
    ]  # fmt: skip
