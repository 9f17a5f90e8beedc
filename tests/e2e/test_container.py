"""deploy/docker: the image's steps, done here without a container engine, make something that runs and is healthy.

What the Dockerfile copies is there and reaches the builder; its RUN lines make an environment with mcproxy and what it
imports and nothing else; its CMD serves, its HEALTHCHECK tells a server that is up from one that is not.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from mcproxy import config
from tests.conftest import MakeBackend
from tests.e2e.test_service_manager import echoed
from tests.kit.peers import echo, free_port
from tests.kit.program import ROOT, Program

DOCKER = ROOT / "deploy" / "docker"
pytestmark = pytest.mark.xdist_group("container")  # the image is made once, for all of them
TIMEOUT = 900.0  # seconds; what is built comes from the package index


def instructions() -> Iterator[tuple[str, str]]:
    """(instruction, the rest), continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (DOCKER / "Dockerfile").read_text())
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest


def last(word: str) -> str:
    return [rest for name, rest in instructions() if name == word][-1]


def copies() -> Iterator[tuple[list[str], str]]:
    """What comes from the tree: sources and target."""
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            yield sources, target


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image has as /opt/mcproxy."""
    folder = tmp_path_factory.mktemp("image")
    source, made = folder / "src", folder / "opt/mcproxy"
    source.mkdir()
    for each in (each for sources, target in copies() if target.startswith(".") for each in sources):
        if (ROOT / each).is_dir():
            shutil.copytree(ROOT / each, source / each, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (source / each).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / each, source / each)
    for word, rest in instructions():
        if word == "RUN" and "/opt/mcproxy" in rest:
            command = shlex.split(rest.replace("/opt/mcproxy", str(made)))
            program = [sys.executable, *(["-m", "pip"] if command[0] == "pip" else [])]
            done = subprocess.run(
                [*program, *command[1:]], cwd=source, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            assert done.returncode == 0, done.stderr
    return made


def test_what_is_copied_reaches_the_builder() -> None:
    allowed = [
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    found = [each for sources, _ in copies() for each in sources]
    assert len(found) >= 6
    for each in found:
        assert (ROOT / each).exists(), each
        assert any(fnmatch(each, pattern) for pattern in allowed), f"{each} is ignored"


def test_its_build_compiles_the_data_path() -> None:
    """As setup.py reads it; the image of these tests is pure, because a compiler needs minutes."""
    stage = list(instructions())[: [word for word, _ in instructions()].index("FROM", 1)]
    assert ("ARG", "COMPILE=1") in stage
    assert ("ENV", "MCPROXY_COMPILE=$COMPILE") in stage
    assert any("gcc" in rest for word, rest in stage if word == "RUN")


def test_it_is_not_root_and_keeps_its_data() -> None:
    words = [word for word, _ in instructions()]
    assert words.count("FROM") == 2
    assert last("USER") == "10443", "a number, which an orchestrator can tell from root's"
    assert any("--uid 10443" in rest for word, rest in instructions() if word == "RUN")
    assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")
    seeded = config.load(DOCKER / "mcproxy.toml")
    assert seeded.grpc is not None
    for path in (seeded.database.path, seeded.grpc.addr.removeprefix("unix:")):
        assert Path("/srv/mcproxy", Path(path).relative_to(DOCKER)).parent == Path(last("VOLUME"))
    assert [listener.addr for listener, _ in seeded.seed_listeners()] == [f":{last('EXPOSE')}"]
    assert "PATH=/opt/mcproxy/bin:" in last("ENV")


def test_the_image_holds_what_runs(opt: Path) -> None:
    packages = {path.name for path in opt.glob("lib/python3*/site-packages/*")}
    assert "mcproxy" in packages
    assert not packages & {"pip", "setuptools", "wheel", "pytest", "tests", "mypy", "ruff", "deploy"}
    assert not [path for path in opt.rglob("__pycache__") if "mcproxy" in path.relative_to(opt).parts]


def test_it_serves_and_knows_whether_it_is_healthy(opt: Path, tmp_path: Path, backend: MakeBackend) -> None:
    port = free_port()
    text = (DOCKER / "mcproxy.toml").read_text()
    for name, value in {
        '":8443"': f'"127.0.0.1:{port}"',
        '"one:443"': f'"{backend(echo).address}"',
        "one.localhost": "a.test",
    }.items():
        assert name in text
        text = text.replace(name, value)
    (tmp_path / "mcproxy.toml").write_text(text)
    (tmp_path / "data").mkdir()
    env = {"PATH": f"{opt}/bin:{os.environ['PATH']}"}
    health = json.loads(last("HEALTHCHECK").rpartition("CMD ")[2])

    def ask() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            health, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
            executable=str(opt / "bin" / health[0]),
        )  # fmt: skip

    program, *arguments = json.loads(last("CMD"))
    with Program(opt / "bin" / program, *arguments, env=env, cwd=tmp_path) as server:
        server.line("started, generation")
        echoed(port)
        answer = ask()
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["state"] == "serving"
        server.process.terminate()
        assert server.wait() == 0
    assert ask().returncode == 3


def test_make_docker_builds_it_from_the_root(tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    engine.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    engine.chmod(0o755)
    made = subprocess.run(
        ["make", "--silent", "docker", f"DOCKER={engine}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    where, *arguments = made.stdout.splitlines()
    assert Path(where) == ROOT
    assert arguments == ["build", "--file", "deploy/docker/Dockerfile", "--tag", "mcproxy", "."]
    assert f"docker {shlex.join(arguments)}" in (DOCKER / "Dockerfile").read_text()


def test_make_docker_without_an_engine_says_what_to_do() -> None:
    made = subprocess.run(
        ["make", "--no-print-directory", "docker", "DOCKER=no-such-engine"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode != 0
    assert made.stdout.startswith("there is no no-such-engine here: ")


def test_compose_names_what_the_configuration_routes_to() -> None:
    document = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    services = document["services"]
    seeded = config.load(DOCKER / "mcproxy.toml")
    routes = [route for _, routes in seeded.seed_listeners() for route in routes]
    assert [route.backend.host for route in routes] == [name for name in services if name != "mcproxy"]
    for route in routes:
        assert f"https://{route.hostname} {{" in document["configs"][route.backend.host]["content"]
    ours = services["mcproxy"]
    assert (DOCKER / ours["build"]["context"]).resolve() == ROOT
    assert (ROOT / ours["build"]["dockerfile"]).exists()
    assert ours["cap_drop"] == ["ALL"]
    assert int(ours["stop_grace_period"].removesuffix("s")) > seeded.proxy.shutdown_timeout + 10
    assert ours["ports"] == [f"{last('EXPOSE')}:{last('EXPOSE')}"]


def test_a_fleet_of_three_nodes_has_one_database_and_names_what_it_routes_to() -> None:
    document = yaml.safe_load((DOCKER / "fleet.yaml").read_text())
    services = document["services"]
    seeded = config.load(DOCKER / "fleet.toml")
    assert str(seeded.database.url) == "postgresql://mcproxy@database/mcproxy"
    routes = [route for _, routes in seeded.seed_listeners() for route in routes]
    assert sorted(services) == ["database", "edge1", "edge2", "edge3", *sorted(each.backend.host for each in routes)]
    for route in routes:
        assert f"https://{route.hostname} {{" in document["configs"][route.backend.host]["content"]
        assert set(services[route.backend.host]["networks"]) == {"clients"}
    nodes = [services[f"edge{number}"] for number in (1, 2, 3)]
    for node in nodes:
        assert set(node["networks"]) == {"clients", *services["database"]["networks"]}
        assert (DOCKER / node["build"]["context"]).resolve() == ROOT
        assert node["configs"] == [{"source": "node", "target": f"{last('WORKDIR')}/mcproxy.toml"}]
        assert node["ports"][0].endswith(f":{last('EXPOSE')}")
        assert node["cap_drop"] == ["ALL"]
        assert node["environment"]["PGPASSWORD"] == services["database"]["environment"]["POSTGRES_PASSWORD"]
    for own in ("hostname", "ports", "volumes"):
        assert len({str(each[own]) for each in nodes}) == len(nodes), f"each has its own {own}"
    assert document["configs"]["node"]["file"] == "fleet.toml"
    assert document["networks"]["database"]["internal"], "only nodes reach it"
    assert {volume.partition(":")[0] for each in (*nodes, services["database"]) for volume in each["volumes"]} == set(
        document["volumes"]
    )
