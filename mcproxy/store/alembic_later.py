"""dataset, without alembic until a schema is migrated.

dataset imports alembic for `Database.op`, which changes a schema. Only migrations do (schema.py): at the first start
and after an update. In every other process alembic, with mako and the compilers of all databases, would be 11 MB of
memory and a tenth of the start. So dataset finds stand-ins for its two names, which import the real ones when they are
used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["dataset"]

_NAMES = {"alembic.migration": "MigrationContext", "alembic.operations": "Operations"}


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
