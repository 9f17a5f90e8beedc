"""An admin API that is not ours: every word of its answers would command a terminal or forge a line."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mcproxy.admin.contract import SERVICE
from mcproxy.admin.pb import admin_pb2

EVIL = "\x1b]0;a\x07\x9b2J\u202e\r\nforged"
# Fields whose values have a form, or no command would go on.
_FORMED = {
    "next_page_token": "",
    "what": "route",
    "old_json": json.dumps({"hostname": EVIL, "backend": EVIL, "expires_at": None}),
    "new_json": json.dumps({"hostname": EVIL, "backend": "x" + EVIL, "expires_at": 1.0}),
}


@contextmanager
def hostile(folder: Path, word: str = EVIL) -> Iterator[str]:
    """Such a server, each word of whose answers is `word`; its address."""
    address = f"unix:{folder}/hostile.sock"
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, dict(_handlers(word))),))
    server.add_insecure_port(address)
    server.start()
    try:
        yield address
    finally:
        server.stop(None).wait()


def _handlers(word: str) -> Iterator[tuple[str, Any]]:
    for method in admin_pb2.DESCRIPTOR.services_by_name["ProxyAdminService"].methods:
        request, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.client_streaming, method.server_streaming]

        behave = partial(_answer, answer, method.server_streaming, word)
        yield method.name, make(behave, request.FromString, answer.SerializeToString)


def _answer(kind: type[Message], streamed: bool, word: str, _request: object, _context: object) -> Any:
    filled = kind()
    _fill(filled, word)
    return iter([filled]) if streamed else filled


def _fill(message: Message, word: str) -> None:
    """Set every field, of lists two values."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[word] = 1
        elif field.message_type is not None and field.is_repeated:
            for _ in range(2):
                _fill(getattr(message, field.name).add(), word)
        elif field.message_type is not None:
            _fill(getattr(message, field.name), word)
        elif field.is_repeated:
            getattr(message, field.name).extend([_value(field, word)] * 2)
        else:
            setattr(message, field.name, _value(field, word))


def _value(field: Any, word: str) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.cpp_type == field.CPPTYPE_STRING:
        return _FORMED.get(field.name, word)
    return field.cpp_type == field.CPPTYPE_BOOL or 1
