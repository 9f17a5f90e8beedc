"""The faults of peers that the code can find, read from its text: where each is made, and what it says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import mcproxy

ROOT = Path(mcproxy.__file__).parent
FAULTS = {
    "Malformed", "BadRequest", "StreamFault", "ConnectionFault", "BadMessage", "BackendFault", "CompressionFault",
    "Exceeded", "HuffmanFault", "Refusal", "__init__",
}  # fmt: skip
# Calls that end an exchange or a connection and say why.
ENDS = {
    "_bad_data", "_close", "_lose", "_lose_backend", "abandon", "answer_with", "client_lost", "cut", "fail", "fail_all",
    "finish", "reset",
}  # fmt: skip
Site = tuple[str, str]  # a file and a text; "*" is what differs

# Faults without a row, and why.
OTHERWISE: dict[Site, str] = {
    ("l7/http2/from_client.py", "* after RST_STREAM"): "it is about a stream that is over, and has had its line",
    ("l7/bridge/http2_connection.py", "it takes no request"): "a line asks before",
    ("l7/bridge/http2_connection.py", "it takes no more of the request"): "an exchange knows before",
    ("l7/bridge/http1_connection.py", "its connection carries no further request"): "a line asks before",
    ("l7/bridge/http1_connection.py", "a body behind a request that is *"): "an exchange knows before",
    (
        "l7/bridge/http1_connection.py",
        "the request lacks the body that it declares",
    ): "the client's reader knows before",
    ("l7/bridge/http1_connection.py", "the request's body is longer than its content-length"): "as the one above",
    ("l7/bridge/http1_connection.py", "the request's body is shorter than its content-length"): "as the one above",
    ("l7/bridge/answers_http1.py", "a body longer than its content-length"): "the backend's reader knows before",
    ("l7/bridge/answers_http1.py", "a body shorter than its content-length"): "as the one above",
    ("l7/bridge/answers_http1.py", "a body with an answer that has none"): "an exchange drops it before",
    ("l7/bridge/request_half.py", "it takes no request"): "the reason is why the connection before it was lost",
    (
        "l7/bridge/request_half.py",
        "the backend closed its connection, and may have processed the request",
    ): "the reason is why the connection before it was lost",
}


def said(node: ast.expr) -> Iterator[str]:
    """What an expression says, where that is written in it: a name or a call says what was made elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from said(node.body)
        yield from said(node.orelse)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _texts(node: ast.AST) -> list[ast.expr]:
    """The expressions in which a piece of code says what is wrong."""
    if isinstance(node, ast.Call) and _name(node.func) in FAULTS | ENDS:
        return node.args
    if isinstance(node, ast.FunctionDef) and node.name.endswith("_fault"):
        return [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value is not None]
    if isinstance(node, ast.Assign) and _name(node.targets[0]) in ("why", "fault"):
        return [node.value]
    return []


def _made(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        for each in _texts(node):
            yield from said(each)
    for statement in tree.body:  # texts that have a name, because two places use them
        if isinstance(statement, ast.Assign):
            yield from (text for text in said(statement.value) if " " in text)


def sites() -> set[Site]:
    """All of them, of both parsers and both sides' HTTP."""
    files = [
        *ROOT.glob("wire/*.py"),
        *ROOT.glob("l7/http2/*.py"),
        *ROOT.glob("l7/relay/*.py"),
        *ROOT.glob("l7/bridge/*.py"),
    ]
    return {
        (str(path.relative_to(ROOT)), text)
        for path in files
        if path.name not in ("hello.py", "proxy_protocol.py")
        for text in _made(ast.parse(path.read_text()))
        if text
    }
