"""The house rules that a machine can hold: who may import whom, how long things may grow, where tests live."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mcproxy"
GENERATED = PACKAGE / "admin" / "pb"

# A folder may import those of a lower rank, and of its own rank where that closes no circle.
RANKS = {
    "model": 0, "settings": 0, "words": 0,
    "wire": 1, "policy": 1, "table": 1, "change": 1, "stats": 1, "lines": 1, "log": 1,
    "document": 1, "diagnosis": 1,
    "geoip": 2, "certificates": 2, "messages": 2,
    "notify": 2, "journal": 2, "net": 2, "l7": 2, "admin": 2, "store": 2, "config": 2, "access": 2,
    "check": 3, "reload": 3, "look": 3, "desk": 3, "plane": 3, "control": 3, "app": 3,
    "cli": 4, "__main__": 5,
}  # fmt: skip
FORBIDDEN = {
    ("admin", "net"), ("admin", "l7"), ("store", "net"), ("store", "l7"), ("net", "l7"),
    ("desk", "admin"), ("desk", "store"),  # what a worker needs, and what only the control plane needs, are apart
    ("messages", "admin"), ("plane", "net"), ("plane", "l7"), ("plane", "desk"),
}  # fmt: skip
_NATIVE = {"time", "logging", "gevent", "ssl", "select", "threading", "asyncio", "selectors", "os", "pathlib"}
_OUTSIDE = {*_NATIVE, "socket"}
# `policy` takes socket's constants and its text forms of addresses, and opens nothing.
ONLY_PURE = {
    "wire": _OUTSIDE,
    "table": _OUTSIDE,
    "change": _OUTSIDE,
    "lines": _OUTSIDE - {"time"},
    "policy": _NATIVE,
    "model": _OUTSIDE,
}
ONLY_PURE["lines"] = _OUTSIDE - {"time"}  # which formats a moment that it is given
NOT_ON_THE_HUB = {"store": {"gevent"}, "admin": {"gevent"}}

# Rooms of l7 that meet in core.py and bounds.py only; `terminate` joins them.
L7_ROOMS = {"sockets", "relay", "bridge"}
# What must not be loaded, however far away the import is, by these.
WITHOUT_SOCKETS = ("mcproxy.l7.core", "mcproxy.l7.bounds", "mcproxy.l7.relay.relay", "mcproxy.l7.bridge.bridge")
SOCKETS = {"gevent", "ssl", "socket", "selectors", "asyncio"}

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
USUAL_FUNCTION_LINES = 30
UNUSUAL_SHARE = 0.05  # of all functions may be longer than usual


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if GENERATED not in path.parents)


def folder(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def arrows() -> set[tuple[str, str, str]]:
    """(importing folder, imported folder, file)."""
    found = set()
    for path in sources():
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "mcproxy" and len(parts) > 1 and (parts[1] in RANKS):
                found.add((folder(path), parts[1], str(path.relative_to(ROOT))))
    return {arrow for arrow in found if arrow[0] != arrow[1] and arrow[0] != "__init__"}


def test_every_folder_has_a_rank() -> None:
    assert {folder(path) for path in sources()} - {"__init__"} <= set(RANKS)


def test_no_arrow_back() -> None:
    bad = {a for a in arrows() if RANKS[a[0]] < RANKS[a[1]] or (a[0], a[1]) in FORBIDDEN}
    assert not bad


def test_no_circles_between_folders() -> None:
    graph: dict[str, set[str]] = {}
    for source, target, _file in arrows():
        graph.setdefault(source, set()).add(target)

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for target in graph.get(todo.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return seen

    assert not [name for name in graph if name in reach(name)]


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def file_graph() -> dict[str, set[str]]:
    """Which module imports which, for its types alone included."""
    modules = {module(path) for path in sources()}
    return {module(path): modules & set(imports(path)) - {module(path)} for path in sources()}


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """The modules that reach each other, by groups."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        todo, seen = [start], set[str]()
        while todo:
            fresh = graph[todo.pop()] - seen
            seen |= fresh
            todo += fresh
        reach[start] = seen
    return {frozenset(b for b in reach[a] if a in reach[b]) for a in graph if a in reach[a]}


def test_no_circles_between_files() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == {frozenset("bc")}
    assert not circles(file_graph())


def room(name: str) -> str:
    """Of a module of l7."""
    return name.removeprefix("mcproxy.l7.").split(".")[0]


def test_the_rooms_of_l7_are_apart() -> None:
    bad = []
    for source, targets in file_graph().items():
        for target in targets:
            if target.startswith("mcproxy.l7.") and source.startswith("mcproxy.l7.") and room(source) != room(target):
                allowed = {"core", "bounds"} | (L7_ROOMS if room(source) == "terminate" else set())
                if room(target) not in allowed:
                    bad.append((source, target))
    assert not bad


@pytest.mark.parametrize("name", WITHOUT_SOCKETS)
def test_http_loads_no_sockets(name: str) -> None:
    """Looked at in a process of its own, because what is imported far away counts too."""
    script = f"import sys, {name}; print(*sorted(m for m in sys.modules if m.split('.')[0] in {SOCKETS!r}))"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_folder_stays_off_what_is_not_its_business(path: Path) -> None:
    banned = ONLY_PURE.get(folder(path), set()) | NOT_ON_THE_HUB.get(folder(path), set())
    assert not banned & {name.split(".")[0] for name in imports(path)}


def test_nothing_is_monkey_patched() -> None:
    assert not [path for path in sources() if "gevent.monkey" in set(imports(path))]


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every string but docstrings; what an f-string fills in is an "x"."""
    skipped: set[ast.AST] = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            skipped |= set(node.values)
            parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            yield node.lineno, node.value if isinstance(node.value, str) else node.value.decode("latin-1")


POSSESSIVE = re.compile(r"[*+?}]\+|\(\?[>]")


def is_possessive(pattern: str) -> bool:
    """Whether this, as a regular expression, has a possessive quantifier or an atomic group."""
    bare = re.sub(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", "x", re.sub(r"\\[^\]]", "x", pattern))
    return POSSESSIVE.search(bare.replace("&'*+", "")) is not None  # RFC 9110 lists the characters of a token so


@pytest.mark.parametrize(
    ("pattern", "possessive"),
    [
        (r"a*+", True), (r"a++b", True), (r"a?+", True), (r"[ab]{1,63}+(?<!-)", True), (r"(?>a|ab)c", True),
        (r"[]a]++", True), (r"[a\]]*+", True),
        (r"a\*+", False), (r"[*+?]+", False), (r"[^]*+]", False), (r"a+b+", False),
    ],
)  # fmt: skip
def test_possessive_patterns_are_recognised(pattern: str, possessive: bool) -> None:
    assert is_possessive(pattern) is possessive


def test_no_pattern_is_possessive() -> None:
    """`re` matches them wrongly in Python 3.11.0 to 3.11.4 (gh-106052), of which Debian 12 has one."""
    files = [path for top in ("mcproxy", "tests", "deploy") for path in (ROOT / top).rglob("*.py")]
    suspects = [path for path in files if path != Path(__file__) and POSSESSIVE.search(path.read_text())]
    assert suspects, "some token characters, at the least"
    assert not [
        f"{path.relative_to(ROOT)}:{line} {text!a:.80}"
        for path in suspects
        for line, text in literals(ast.parse(path.read_text()))
        if is_possessive(text)
    ]


def conversions(node: ast.AST) -> Iterator[int]:
    """The lines with a !r or !a in an f-string, but for those of a __repr__."""
    if isinstance(node, ast.FunctionDef) and node.name == "__repr__":
        return
    if isinstance(node, ast.FormattedValue) and node.conversion != -1:
        yield node.lineno
    for child in ast.iter_child_nodes(node):
        yield from conversions(child)


def test_no_message_quotes_as_python_does() -> None:
    """An operator reads "a.test", not 'a.test' or b'a.test': words.quoted quotes. A __repr__ is for programmers."""
    assert not [f"{path.relative_to(ROOT)}:{n}" for path in sources() for n in conversions(ast.parse(path.read_text()))]


def functions() -> Iterator[tuple[str, int]]:
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", lines


def test_functions_are_short() -> None:
    lengths = dict(functions())
    assert not {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES}
    unusual = {name: n for name, n in lengths.items() if n > USUAL_FUNCTION_LINES}
    assert len(unusual) <= UNUSUAL_SHARE * len(lengths), unusual


def test_files_are_short() -> None:
    checked = [*sources(), *(ROOT / "tests").rglob("*.py")]
    assert not [str(path) for path in checked if len(path.read_text().splitlines()) > MAX_FILE_LINES]
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 150


def test_tests_mirror_the_files() -> None:
    constants = {p for p in sources() if p.name == "bounds.py"}  # held by the tests of what they bound
    assert not {
        p for p in constants if any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(p.read_text())))
    }
    modules = {p.relative_to(PACKAGE) for p in {*sources()} - constants if not p.name.startswith("__")}
    mirrored = {m.with_name(f"test_{m.name}") for m in modules}
    tests = ROOT / "tests"
    present = {p.relative_to(tests) for p in tests.rglob("test_*.py")}
    end_to_end = {p for p in present if p.parts[0] == "e2e"}
    of_the_tree = {Path("test_layout.py"), Path("test_files.py")}
    assert mirrored - present == set(), "no test file for these modules"
    assert present - mirrored - end_to_end - of_the_tree == set(), "these test files mirror no module"
