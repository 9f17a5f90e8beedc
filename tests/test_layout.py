"""The house rules that a machine can hold: who may import whom, how long things may grow, where tests live."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from mcproxy.l7.core import ExchangeEnd
from mcproxy.model import End, Reason

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mcproxy"
GENERATED = PACKAGE / "admin" / "pb"

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
LOG = "A line of the log, and its file"
# What must not be loaded, however far away the import is, by these.
WITHOUT_SOCKETS = (
    "mcproxy.l7.core", "mcproxy.l7.bounds", "mcproxy.l7.http2.from_client",
    "mcproxy.l7.relay.relay", "mcproxy.l7.bridge.bridge",
)  # fmt: skip
SOCKETS = {"gevent", "ssl", "socket", "selectors", "asyncio"}

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
USUAL_FUNCTION_LINES = 30
UNUSUAL_SHARE = 0.05  # of all functions may be longer than usual
MAX_METHODS = 25  # of a class, properties included
MAX_ATTRIBUTES = 12  # that a class assigns, or has slots for
LARGE_CLASSES = {  # that may exceed one of these, and why
    "l7/bridge/heads.py RequestHead": "a value, one for each request; to freeze it takes as long as all else about it",
    "l7/http2/header_link.py Section": "a value once it is judged; what is asked for each request is an attribute",
    "l7/http2/stream.py Stream": "one for each request, on the fast path: objects within it would cost memory and time",
    "l7/relay/relay.py Relay": "20 of its methods are those of Core",
    "net/shared.py Shared": "the parts of a worker, each under one name; groups of them would only be second names",
}


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if GENERATED not in path.parents)


def floors() -> list[list[str]]:
    """The floors that ARCHITECTURE.md draws, the lowest first."""
    drawn = re.findall(r"(?m)^    ([a-z_][a-z0-9_, ]+?) +\|", PAGE)
    return [line.split(", ") for line in reversed(drawn)]


def never() -> dict[str, set[str]]:
    """What each place never imports, as the table of ARCHITECTURE.md says."""
    rules: dict[str, set[str]] = {}
    for places, banned in re.findall(r"(?m)^\| ((?:`[a-z0-9_/]+`(?:, )?)+) \|.*\| ((?:`[a-z0-9_/]+` ?)+) \|$", PAGE):
        for place in re.findall(r"`([^`]+)`", places):
            rules[place] = set(re.findall(r"`([^`]+)`", banned))
    return rules


def places(path: Path) -> set[str]:
    """The places of the page that a file is in: "l7" and "l7/relay", or "table"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}


def folder(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def names(module: str) -> set[str]:
    """What an import is called on the page: "gevent" of gevent.hub, "l7" and "l7/relay" of mcproxy.l7.relay.relay."""
    top, *rest = module.split(".")
    return {"/".join(rest[:depth]) for depth in range(1, len(rest) + 1)} if top == "mcproxy" else {top}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def broken_rules(path: Path, imported: Iterable[str]) -> set[str]:
    """The rules of the page that a file breaks which imports these modules."""
    rules, floor_of = never(), {place: i for i, floor in enumerate(floors()) for place in floor}
    used = set().union(*map(names, imported)) if imported else set()
    broken = {f"{place} imports {name}" for place in places(path) for name in used & rules.get(place, set())}
    mine = folder(path)
    if mine != "__init__":
        higher = {name for name in used if floor_of.get(name, -1) > floor_of[mine]}
        broken |= {f"{mine} imports {name} of a higher floor" for name in higher}
    return broken


def test_each_place_is_on_a_floor_and_in_the_table() -> None:
    on_floors = [place for floor in floors() for place in floor]
    assert len(on_floors) == len(set(on_floors))
    there = {folder(path) for path in sources()} - {"__init__"}
    assert there == set(on_floors)
    assert there - {"__main__"} <= set(never())


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_keeps_to_the_rules_of_its_place(path: Path) -> None:
    assert not broken_rules(path, list(imports(path)))


@pytest.mark.parametrize(
    ("place", "name"), [(place, name) for place, banned in never().items() for name in sorted(banned)]
)
def test_each_rule_of_the_table_fails_when_it_is_broken(place: str, name: str) -> None:
    module = (
        f"mcproxy.{name.replace('/', '.')}" if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists() else name
    )
    file = PACKAGE / place / "x.py" if (PACKAGE / place).is_dir() else PACKAGE / f"{place}.py"
    assert f"{place} imports {name}" in broken_rules(file, [f"{module}.something"])


@pytest.mark.parametrize(("low", "high"), list(pairwise(floors())))
def test_each_floor_fails_when_it_imports_from_above(low: list[str], high: list[str]) -> None:
    for place in low:
        for above in high:
            broken = broken_rules(PACKAGE / place / "x.py", [f"mcproxy.{above}"])
            assert f"{place} imports {above} of a higher floor" in broken


def cells(heading: str) -> list[list[str]]:
    """The rows of a section's table on the page, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    assert rows, heading
    return rows[2:]


def stem(path: Path) -> str:
    """A file as the page calls it: "net/dial" or "table"."""
    return str(path.relative_to(PACKAGE).with_suffix(""))


def test_the_table_of_rooms_names_every_file_and_no_other() -> None:
    """A file that is new gets a word or a few in the row of its folder; one that is gone loses them."""
    named: set[str] = set()
    for places_of_row, holds, *_ in cells("Rooms"):
        for place in re.findall(r"`([^`]+)`", places_of_row):
            named |= {f"{place}/{name}" for name in re.findall(r"`([a-z0-9_]+)`", holds)}
    files = {stem(path) for path in sources() if path.parent != PACKAGE and path.name != "__init__.py"}
    assert files <= named, f"ARCHITECTURE.md, Rooms, names no {', '.join(sorted(files - named))}"
    elsewhere = {place for floor in floors() for place in floor}
    there = {name for name in named - files if (PACKAGE / name).parent.is_dir()}
    assert not {name for name in there if name.rpartition("/")[2] not in elsewhere}


@pytest.mark.parametrize("heading", ["The way of the data", LOG, "Where a new thing goes"])
def test_each_file_that_the_page_names_exists(heading: str) -> None:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    paths = set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)+)`", section))
    if heading != "The way of the data":
        paths |= {name for row in cells(heading) for name in re.findall(r"`([a-z0-9]+)`", row[1])}
    assert paths
    assert not {path for path in paths if not (PACKAGE / path).is_dir() and not (PACKAGE / f"{path}.py").exists()}


def members_used(tree: ast.Module, enum: str) -> set[str]:
    """The members of an enum that a file gives to something; those that it only compares with don't count."""
    constants = {
        node.target.id: node.value.attr
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if isinstance(node.value, ast.Attribute) and ast.unparse(node.value.value) == enum
    }
    passed: set[ast.AST | None] = {
        each for node in tree.body if isinstance(node, ast.AnnAssign) for each in (node.target, node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            passed |= set(ast.walk(node))
    used = [node for node in ast.walk(tree) if node not in passed]
    return {constants[node.id] for node in used if isinstance(node, ast.Name) and node.id in constants} | {
        node.attr for node in used if isinstance(node, ast.Attribute) and ast.unparse(node.value) == enum
    }


def test_the_table_of_the_log_names_every_file_that_decides_a_word() -> None:
    """So a reader of a line finds the place that it comes from; the data path's files only, others ask for reasons."""
    data_path = ("certificates", "desk", "l7", "net", "notation", "policy", "wire")
    trees = {stem(path): ast.parse(path.read_text()) for path in sources() if folder(path) in data_path}
    without_a_line = {Reason.OK, End.LOST}
    for kind in (Reason, End, ExchangeEnd):
        mine = [row for row in cells(LOG) if row[0].startswith("request ") is (kind is ExchangeEnd)]
        used = {name: members_used(tree, kind.__name__) for name, tree in trees.items()}
        for member in (member for member in kind if member not in without_a_line):
            row = next((row for row in mine if f"`{member}`" in row[0]), None)
            assert row, f"no row has {member}"
            deciding = {name for name, members in used.items() if member.name in members}
            assert deciding <= set(re.findall(r"`([a-z0-9_/]+)`", row[1])), member


def test_the_name_in_a_line_of_the_log_leads_to_one_place() -> None:
    """The text has the last part of the logger's name only: no two files may share it, but within a folder of it."""
    (row,) = (row for row in cells(LOG) if "NAME" in row[0])
    folders = set(re.findall(r"`([a-z0-9_/]+)`", row[1])) - {"net/names"}
    places_of: dict[str, set[str]] = {}
    for path in sources():
        for argument in re.findall(r"^log(?:: Final)? = logging\.getLogger\((.+)\)$", path.read_text(), re.MULTILINE):
            place = stem(path) if argument == "__name__" else stem(path.parent)
            head, _, tail = place.rpartition("/")
            places_of.setdefault(tail, set()).add(head if head == tail else place)
    assert not {name: found for name, found in places_of.items() if len(found) > 1}
    assert {place for found in places_of.values() for place in found if (PACKAGE / place).is_dir()} == folders


def test_no_circles_between_folders() -> None:
    graph: dict[str, set[str]] = {}
    for path in sources():
        mine = folder(path)
        reached = {name for module in imports(path) for name in names(module)}
        graph.setdefault(mine, set()).update(
            {place for floor in floors() for place in floor if place in reached} - {mine}
        )
    assert not circles({name: targets & set(graph) for name, targets in graph.items()})


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


def meeting(classes: dict[str, set[str]], graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """(class, module) where a module is in the way of two classes of one name: it has or imports both."""
    shared = {name: homes for name, homes in classes.items() if len(homes) > 1}
    return {
        (name, user)
        for name, homes in shared.items()
        for user, imported in graph.items()
        if len(homes & {user, *imported}) > 1
    }


def test_one_name_means_one_thing_wherever_it_is_read() -> None:
    """Rooms that don't meet may each have a Relay; a file that meets both would leave its reader to guess."""
    assert meeting({"A": {"x", "y"}}, {"x": set(), "y": set(), "z": {"x", "y"}}) == {("A", "z")}
    assert meeting({"A": {"x", "y"}}, {"x": {"y"}, "y": set(), "z": {"x"}}) == {("A", "x")}
    classes: dict[str, set[str]] = {}
    for path in sources():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, set()).add(module(path))
    assert not meeting(classes, file_graph())


@pytest.mark.parametrize("name", WITHOUT_SOCKETS)
def test_http_loads_no_sockets(name: str) -> None:
    """Looked at in a process of its own, because what is imported far away counts too."""
    script = f"import sys, {name}; print(*sorted(m for m in sys.modules if m.split('.')[0] in {SOCKETS!r}))"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    assert loaded.stdout.split() == []


def test_nothing_is_monkey_patched() -> None:
    assert not [path for path in sources() if "gevent.monkey" in set(imports(path))]


def test_what_runs_under_every_python_imports_little() -> None:
    """So `make test-pure` needs seconds to make an environment, and packages that exist for every Python."""
    program = (
        "import importlib, importlib.metadata, sys; from tests import pure\n"
        "for name in pure.modules(): importlib.import_module(name)\n"
        "owners = importlib.metadata.packages_distributions()\n"
        "loaded = {owner for name in set(sys.modules) & set(owners) for owner in owners[name]}\n"
        "print(*sorted(loaded & (set(pure.dependencies()) - pure.PACKAGES)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([], "")


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


def is_value(node: ast.ClassDef) -> bool:
    """Whether instances never change (or there are none): their fields are not state that a reader has to follow."""
    frozen = any("frozen=True" in ast.unparse(decorator) for decorator in node.decorator_list)
    return frozen or bool({ast.unparse(base) for base in node.bases} & {"NamedTuple", "Protocol"})


def shape(node: ast.ClassDef) -> tuple[int, int]:
    """How many methods a class has, and how many attributes it declares or assigns to itself."""
    methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    attributes = {
        each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and ast.unparse(each.value) == "self":
            attributes.add(each.attr)
    return len(methods), len(attributes)


def test_classes_are_small() -> None:
    """And none is cut along the limit: see CONTRIBUTING. An exception that is not needed any more has to go."""
    large = {
        f"{path.relative_to(PACKAGE)} {node.name}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not is_value(node)
        if (counted := shape(node)) and (counted[0] > MAX_METHODS or counted[1] > MAX_ATTRIBUTES)
    }
    assert large == set(LARGE_CLASSES)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "class A:\n    b: int\n    def c(self): self.d, self.e[0] = 1, 2\n    @property\n    def f(self): ...",
            (2, 2),
        ),
        (
            "class A:\n    def b(self):\n        self.c += 1\n        other.d = self.e\n    async def f(self): ...",
            (2, 1),
        ),
    ],
)
def test_a_class_is_counted_by_what_it_assigns_to_itself(source: str, expected: tuple[int, int]) -> None:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.ClassDef)
    assert shape(node) == expected


def test_files_are_short() -> None:
    checked = [*sources(), *(ROOT / "tests").rglob("*.py")]
    assert not [str(path) for path in checked if len(path.read_text().splitlines()) > MAX_FILE_LINES]
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 150


def covering(path: Path) -> Path | None:
    """The test file that the head of a file of values names, where it has no mirror: `Tested by tests/x/test_y.py`."""
    found = re.search(r"Tested by (tests/[a-z0-9_/]+\.py)", ast.get_docstring(ast.parse(path.read_text())) or "")
    return ROOT / found[1] if found else None


def test_tests_mirror_the_files() -> None:
    constants = {p for p in sources() if p.name == "bounds.py"}  # held by the tests of what they bound
    assert not {
        p for p in constants if any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(p.read_text())))
    }
    values = {p for p in sources() if covering(p)}
    modules = {p.relative_to(PACKAGE) for p in {*sources()} - constants - values if not p.name.startswith("__")}
    mirrored = {m.with_name(f"test_{m.name}") for m in modules}
    tests = ROOT / "tests"
    present = {p.relative_to(tests) for p in tests.rglob("test_*.py")}
    end_to_end = {p for p in present if p.parts[0] == "e2e"}
    of_the_tree = {Path("test_layout.py"), Path("test_files.py")}
    assert mirrored - present == set(), "no test file for these modules"
    assert present - mirrored - end_to_end - of_the_tree == set(), "these test files mirror no module"


def test_files_of_values_name_a_test_that_covers_them() -> None:
    named = {path: covering(path) for path in sources() if covering(path)}
    assert named
    for path, test in named.items():
        assert test is not None
        assert test.is_file(), f"{path} names {test}"
        assert test.parent.relative_to(ROOT / "tests") == path.parent.relative_to(PACKAGE)


def test_what_tests_share_is_in_the_kit() -> None:
    tests = ROOT / "tests"
    modules = {p.stem for p in (tests / "kit").glob("*.py")} - {"__init__"}
    listed = set(re.findall(r"[a-z0-9_]+", (tests / "kit" / "__init__.py").read_text()))
    assert modules <= listed, f"the head of tests/kit names no {', '.join(modules - listed)}"
    folders = ("bench", "fuzz", "kit", "kit/apps", "soak")
    programs = {
        tests / "compiled.py",
        tests / "pure.py",
        *(p for folder in folders for p in (tests / folder).glob("*.py")),
    }
    others = {p for p in tests.rglob("*.py") if not p.name.startswith(("test_", "conftest", "__init__"))} - programs
    assert not others


def patches(source: str) -> Iterator[str]:
    """What of ours a test replaces: an attribute of a module or class of mcproxy, or what an object keeps private."""
    tree = ast.parse(source)
    ours = {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mcproxy")
        or (isinstance(node, ast.Import) and node.names[0].name.split(".")[0] == "mcproxy")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"setattr", "setitem", "patch"}:
            if node.args and ast.unparse(node.args[0]).split(".")[0] in ours:
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if not isinstance(target, ast.Attribute):
                    continue
                root = ast.unparse(target).split(".")[0]
                if root in ours or (
                    re.match(r"_(?!_)", target.attr) and ast.unparse(target.value) not in {"self", "cls"}
                ):
                    yield f"{node.lineno}: {ast.unparse(target)}"


def test_nothing_of_ours_is_patched() -> None:
    """Seams are parameters. What is patched is Python's own, where a test needs a kernel or a disk that fails."""
    source = "from mcproxy import geoip\nfrom mcproxy.l7.relay.relay import Relay\nimport os\n"
    broken = ("monkeypatch.setattr(geoip, 'MAX', 1)", "Relay.take = None", "geoip.MAX = 1", "drive._turns = None")
    assert [len(list(patches(source + line))) for line in broken] == [1, 1, 1, 1]
    assert not list(patches(source + "monkeypatch.setattr(os, 'open', refuse)\nself._x = 1\ndrive.x = 2"))
    found = {str(p.relative_to(ROOT)): list(patches(p.read_text())) for p in (ROOT / "tests").rglob("*.py")}
    assert not {name: lines for name, lines in found.items() if lines}


def test_no_test_sleeps() -> None:
    """Tests wait for conditions, with a deadline. A sleep of 0 gives way to the hub; pauses of peers are in the kit."""
    calls = re.compile(r"(?<!def )\bsleep\((?!0\))")
    tests = [p for p in (ROOT / "tests").rglob("test_*.py") if p != Path(__file__)]
    assert not [f"{p.relative_to(ROOT)}: {m[0]}" for p in tests for m in calls.finditer(p.read_text())]


def test_each_connection_to_a_database_is_closed() -> None:
    """Its own `with` only ends a transaction. Python 3.13 warns of one that is left, at any later test."""
    opened = re.compile(r"(?<!closing\()sqlite3\.connect\(")
    tests = [p for p in (ROOT / "tests").rglob("*.py") if p != Path(__file__)]
    assert not [str(p.relative_to(ROOT)) for p in tests if opened.search(p.read_text())]


@pytest.mark.xdist_group("kept")
def test_a_group_is_kept_together(request: pytest.FixtureRequest) -> None:
    """By its name behind a test's. Without, each worker makes every expensive fixture, and nothing else shows it."""
    if request.config.getoption("loadgroup", default=False):  # of a worker's process
        assert request.node.nodeid.endswith("@kept"), "this pytest-xdist ignores groups with this pytest: see setup.cfg"
