"""The tree's own promises: the example configuration is whole and valid, and every dependency has its reason written.

A key that is added to the configuration and not to the example fails here, and so does a dependency without a line in
ARCHITECTURE.md, a claim of SECURITY.md whose test is gone, or a phrase that CONTRIBUTING.md rules out.
"""

import configparser
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import trustme
from pydantic import BaseModel

from mcproxy import config
from mcproxy.check.check import check
from mcproxy.configuration import Config
from mcproxy.document import load_document
from mcproxy.notation.address import split_host_port

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "etc" / "mcproxy.toml.example"
STARTER = ROOT / "etc" / "mcproxy.toml"
STYLE = "CONTRIBUTING.md"  # which quotes the phrases that it rules out
GENERATED = {"docs/mcproxy.1"}

# Phrases that are no plain English, and what to write. Only those that have no good use, so that nobody has to work
# around this list.
PHRASES = {
    r"(?<![Tt]here )\b(?:is|are|was|were) none\b": "is invalid, is missing, is not a ...",
    r"\banew\b": "again",
    r"\b[Ww]ho(?:so)?ever\b": "name it: the caller, the client, the operator",
    r"\bany more\b(?! [a-z])": "no longer, no more",
    r"\bbe it\b": "even if, whether",
    r"\ball the same\b": "still",
    r"\b[Tt]ime-outs?\b": "timeout",
    r"\b(?:he|his|him)\b": "it, they",
    r"\b(?:is|are|was|were|be) told(?! to\b| what\b)\b": "gets, learns; is reported, is logged",
    r"\bWhom\b": "name it: the client, the user, the peer",
    r"\b(?:[Bb]egin|[Ll]ook|[Cc]ount it|[Ss]end) no more\b": "stop",
}

# What an example must show by an example, because its default says too little or is the other mode's.
SHOWN_BY_EXAMPLE = {
    "acme.accept_terms",
    "database.path",
    "grpc.addr",
    "listeners[].addr",
    "listeners[].routes[].hostname",
    "listeners[].routes[].backend",
}


def model_in(annotation: object) -> type[BaseModel] | None:
    """The table that an annotation speaks of, if it does."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_in(part))), None)


def keys_of_model(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key that may be written, with its default."""
    for name, field in model.model_fields.items():
        table = model_in(field.annotation)
        if table is None:
            yield prefix + name, field.default
        else:
            yield from keys_of_model(table, f"{prefix}{name}{'[].' if field.default == () else '.'}")


def keys_of_document(value: Any, key: str = "") -> Iterator[tuple[str, object]]:
    """Every key that is written, with its value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from keys_of_document(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from keys_of_document(inner, f"{key}[]")
    else:
        yield key, value


def test_the_example_loads() -> None:
    loaded = config.load(EXAMPLE)
    routes = [route for _, routes in loaded.seed_listeners() for route in routes]
    assert {route.mode for route in routes} == {"l4", "l7"}
    assert loaded.grpc is not None


def problems_of(loaded: Config) -> list[str]:
    """What `mcproxy check` finds, but for addresses, which this user may not have, or somebody else has."""
    found = check(loaded, lambda: None).found
    return [str(each) for each in found if not re.fullmatch(r"listeners\[\d+\]\.addr", each.key)]


def test_the_example_is_right_where_its_files_exist(tmp_path: Path) -> None:
    """`mcproxy check` finds nothing wrong with it, but that the files of its l7 routes aren't there."""
    path = tmp_path / "mcproxy.toml"
    path.write_text(EXAMPLE.read_text())
    (tmp_path / "data").mkdir()
    authority = trustme.CA()
    for name in ("www", "api"):
        issued = authority.issue_cert(f"{name}.example.org")
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "internal-ca.pem"))
    loaded = config.load(path)
    assert problems_of(loaded) == []


def test_the_starter_is_small_and_works_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mcproxy.toml"
    path.write_text(STARTER.read_text())
    loaded = config.load(path)
    assert problems_of(loaded) == []
    assert all(split_host_port(listener.addr)[1] >= 1024 for listener, _ in loaded.listeners), (
        "any user may listen there"
    )
    assert len(STARTER.read_text().splitlines()) < 30


def test_the_example_has_every_key() -> None:
    text = EXAMPLE.read_text()
    written = {key for key, _ in keys_of_document(tomllib.loads(text))}
    instead_of_path = {"database.url", "database.cache"}
    assert written == {key for key, _ in keys_of_model(config.Document)} - instead_of_path
    for key in instead_of_path:
        assert re.search(rf"(?m)^# {key.rpartition('.')[2]} = ", text)


def test_the_example_shows_the_defaults() -> None:
    written: dict[str, list[object]] = {}
    document = config.Document.model_validate(load_document(EXAMPLE), context={"folder": EXAMPLE.parent})
    for key, value in keys_of_document(document.model_dump(mode="json")):
        written.setdefault(key, []).append(value)
    for key, default in keys_of_model(config.Document):
        if key not in SHOWN_BY_EXAMPLE and key != "database.path":
            assert (list(default) if isinstance(default, tuple) else default) in written[key], key


def test_the_example_comments_on_every_key() -> None:
    for number, line in enumerate(EXAMPLE.read_text().splitlines(), 1):
        assert len(line) <= 120, f"line {number} is too long"
    lines = EXAMPLE.read_text().splitlines()
    first: dict[str, str] = {}
    for line in lines:
        if key := re.match(r"\s*(\w+) = ", line):
            first.setdefault(key[1], line)
    silent = {key for key, line in first.items() if "#" not in line}
    assert silent <= {"client_key"}, "these keys are not explained where they are first written"


def test_every_dependency_has_its_reason() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = setup["options"]["install_requires"].split("\n")
    names = [re.split(r"[<>=!~\[; ]", line)[0] for line in required if line]
    assert "gevent" in names
    _, heading, section = (ROOT / "ARCHITECTURE.md").read_text().partition("\n## Dependencies\n")
    assert heading, "ARCHITECTURE.md has no section 'Dependencies'"
    lines = section.partition("\n## ")[0].splitlines()
    missing = [name for name in names if not any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", x) for x in lines)]
    assert not missing, "these are in setup.cfg and have no line in ARCHITECTURE.md"


def test_each_attack_names_tests_that_exist_or_says_that_there_is_none() -> None:
    """A row of SECURITY.md that names a test which was renamed or removed claims what nothing shows."""
    page = (ROOT / "SECURITY.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] not in ("attack", "---")]
    assert len(rows) > 100
    wrong = []
    for row in rows:
        shown = row[-1]
        found = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", shown)
        left = re.sub(r"`tests/[\w/]+\.py::test_\w+`", "", shown).strip()
        if len(row) != 3 or bool(found) == left.startswith("no test") or (found and left):
            wrong.append(f"{row[0]}: name tests as `tests/x/test_y.py::test_z`, or write: no test")
        for path, name in found:
            text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
            if not re.search(rf"^def {name}\(", text, re.MULTILINE):
                wrong.append(f"{row[0]}: there is no {path}::{name}")
    assert not wrong, "\n".join(wrong)
    assert page.count("::test_") == sum(row[-1].count("::test_") for row in rows), "tests are named in rows only"


def test_the_man_page_is_that_of_the_help_pages() -> None:
    """`make man` would change nothing."""
    generator = import_module("deploy.dev.man")
    written = generator.OUT.read_text()
    assert generator.page() == written, "docs/mcproxy.1 is stale: run make man"
    assert written.count(".SS ") == len(list(generator.commands(generator.program, "mcproxy")))
    assert "docs/mcproxy.1" in data_files()


def data_files() -> str:
    """What setup.cfg installs beside the package."""
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    return metadata["options.data_files"]["share/man/man1"]


def prose() -> Iterator[Path]:
    """The files that operators and readers meet, but for what is generated from them."""
    for pattern in ("*.md", "docs/*", "etc/*", "proto/**/*.proto", "mcproxy/**/*.py", "deploy/**/*.*"):
        for path in ROOT.glob(pattern):
            name = str(path.relative_to(ROOT))
            if path.is_file() and name != STYLE and name not in GENERATED and not re.search("/pb/|/__pycache__/", name):
                yield path


def test_the_texts_are_plain_english() -> None:
    """A review found these phrases by the hundred; a native reader stumbles over each."""
    found = []
    for path in prose():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for phrase, better in PHRASES.items():
                if hit := re.search(phrase, line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {hit[0]!r}; write: {better}")
    assert not found, "\n".join(found)
