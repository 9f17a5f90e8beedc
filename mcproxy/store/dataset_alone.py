"""dataset, without what it imports for others: alembic, for `Database.op`, and SQLAlchemy's dialect of PostgreSQL.

Nothing here uses `op`: migrations have operations.py. The dialect is for `Types.json`, a column that no table of ours
has; a fleet's database loads it by its URL. The two would be 13 MB of a server's memory and a tenth of its start. So
dataset finds stand-ins for their names, which import the real ones if they are used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["dataset"]

_NAMES = {
    "alembic.migration": "MigrationContext",
    "alembic.operations": "Operations",
    "sqlalchemy.dialects.postgresql": "JSONB",
}


class _Later:
    """A class of a module that is imported when the class is used."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __repr__(self) -> str:
        return f"<Later {self._module}.{self._name}>"

    def _found(self) -> Any:
        return getattr(import_module(self._module), self._name)

    def __call__(self, *args: Any) -> Any:
        return self._found()(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)


def _stand_in(module: str, name: str) -> ModuleType:
    made = ModuleType(module)
    setattr(made, name, _Later(module, name))
    return made


_LACKING = {module: name for module, name in _NAMES.items() if module not in sys.modules}
sys.modules.update({module: _stand_in(module, name) for module, name in _LACKING.items()})
try:
    import dataset
finally:
    for each in _LACKING:
        del sys.modules[each]
