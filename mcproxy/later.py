"""Stand-ins for modules that libraries import and that we don't use: the real ones are loaded only if somebody does.

A stand-in is found under a module's name while the library is imported, and no longer: who imports the name later gets
the real module. What the library asks its stand-in for meanwhile is a `Later`, which can be called, and asked in turn;
behind that, the stand-in has what the module has.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

# What the libraries of a server import. They would be 5 MB of its memory.
OF_SERVER = (
    "asyncio",  # grpc and sqlalchemy, for users of their own asynchronous halves
    "bz2", "lzma",  # shutil, to see whether they are there
    "google.protobuf.descriptor_pb2",  # grpc_reflection, for its answers
    "google.protobuf.internal.python_message",  # protobuf, which has it in C, too
    "grpc.aio", "grpc.experimental.aio", "grpc_health.v1._async", "grpc_reflection.v1alpha._async",
    "hpack.hpack",  # hpack itself; we have its tables only
    "importlib.metadata",  # sqlalchemy, for dialects that others bring
)  # fmt: skip


class Later:
    """A part of a module that is imported when the part is used."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __repr__(self) -> str:
        return f"<Later {self._module}.{self._name}>"

    def _found(self) -> Any:
        return getattr(_real(self._module), self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the part."""
        return self._found()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)


class _StandIn(ModuleType):
    """In a module's place."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what importing itself asks for
            raise AttributeError(name)
        module = self.__name__
        return Later(module, name) if sys.modules.get(module) is self else getattr(import_module(module), name)


def _real(module: str) -> ModuleType:
    if isinstance(sys.modules.get(module), _StandIn):
        del sys.modules[module]
    return import_module(module)


@contextmanager
def left_out(*modules: str) -> Iterator[None]:
    """Have stand-ins for these modules until the end of the block, but for those that are loaded."""
    stand_ins = {module: _StandIn(module) for module in modules if module not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for module, stand_in in stand_ins.items():
            if sys.modules.get(module) is stand_in:
                del sys.modules[module]
