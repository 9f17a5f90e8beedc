"""HTTP/1.1 backends for end-to-end tests: the servers that people run, with one application (tests/kit/apps)."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.kit.apps import HELLO, LARGE
from tests.kit.http2_backends import nginx, running
from tests.kit.peers import free_port
from tests.kit.program import ROOT

APPS = Path(__file__).parent / "apps"
JARS = Path("/usr/share/java")
WRITTEN = 1_700_000_000  # when the files were; Apache gives what is younger than a second another entity tag
GO = "go"  # the file in the server's folder that the event stream waits for

Serve = Callable[[Path], AbstractContextManager[str]]  # runs a server in a folder of its own; gives its address


def _program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    assert found, f"install {package}"
    return found


def _serve(folder: Path, port: int, *command: str | Path) -> AbstractContextManager[str]:
    environment = {**os.environ, "GO": str(folder / GO), "PYTHONPATH": str(ROOT), "PHP_CLI_SERVER_WORKERS": "4"}
    return running([str(each) for each in command], port, environment)


def _python(module: str, *arguments: str) -> Serve:
    """A module of Python that is run; "PORT" stands for its port."""

    def serve(folder: Path) -> AbstractContextManager[str]:
        port = free_port()
        return _serve(folder, port, sys.executable, "-m", module, *(a.replace("PORT", str(port)) for a in arguments))

    return serve


def _node(folder: Path) -> AbstractContextManager[str]:
    port = free_port()
    return _serve(folder, port, _program("node", "nodejs"), APPS / "node.js", str(port))


def _tomcat(folder: Path) -> AbstractContextManager[str]:
    port, unversioned = free_port(), re.compile(r"tomcat10-[a-z-]+\.jar")  # not those with a version: they are the same
    jars = [str(each) for each in JARS.glob("tomcat10-*.jar") if unversioned.fullmatch(each.name)]
    assert jars, "install libtomcat10-java"
    return _serve(
        folder,
        port,
        _program("java", "default-jdk-headless"),
        "-cp",
        ":".join(jars),
        APPS / "OnTomcat.java",
        str(port),
        folder,
    )


def _php(folder: Path) -> AbstractContextManager[str]:
    port = free_port()
    return _serve(folder, port, _program("php", "php-cli"), "-q", "-S", f"127.0.0.1:{port}", APPS / "router.php")


def _files(folder: Path) -> Path:
    """A folder with the application's files, for servers that serve files."""
    root = folder / "www"
    root.mkdir()
    for name, content in (("hello", HELLO), ("cached", HELLO), ("large", LARGE)):
        (root / name).write_bytes(content)
        os.utime(root / name, (WRITTEN, WRITTEN))
    return root


def _nginx(folder: Path) -> AbstractContextManager[str]:
    return nginx(_files(folder), folder, protocol="")


def _apache(folder: Path) -> AbstractContextManager[str]:
    """Apache, which runs a script for /echo."""
    port, root, program = free_port(), _files(folder), _program("apache2", "apache2-bin")
    script = folder / "echo"
    script.write_text(
        "#!/bin/sh\nbody=$(mktemp)\ncat >$body\n"  # all of it first: Apache reads the answer only then
        'printf "Content-Type: text/plain\\nX-Length: ${CONTENT_LENGTH:--}\\n\\n"\ncat $body\nrm $body\n'
    )
    script.chmod(0o755)
    modules = "mpm_prefork authz_core cgi alias mime"
    loaded = "".join(f"LoadModule {each}_module /usr/lib/apache2/modules/mod_{each}.so\n" for each in modules.split())
    (folder / "apache.conf").write_text(
        f"{loaded}ServerName a.test\nListen 127.0.0.1:{port}\nPidFile {folder}/apache.pid\n"
        f"ErrorLog {folder}/error.log\nTypesConfig /etc/mime.types\nDefaultRuntimeDir {folder}\n"
        f"User www-data\nGroup www-data\n"
        f'DocumentRoot {root}\nScriptAlias /echo {script}\n<Directory "{folder}">\nRequire all granted\n</Directory>\n'
    )
    for each in (folder, root):
        each.chmod(0o755)
    return _serve(folder, port, program, "-f", folder / "apache.conf", "-D", "FOREGROUND")


SERVERS: dict[str, Serve] = {
    "gunicorn": _python(
        "gunicorn", "--bind=127.0.0.1:PORT", "--threads=4", "--keep-alive=5", "tests.kit.apps.wsgi:app"
    ),
    "waitress": _python("waitress", "--listen=127.0.0.1:PORT", "--send-bytes=1", "tests.kit.apps.wsgi:app"),
    "uvicorn": _python("uvicorn", "--port=PORT", "--http=h11", "--ws=websockets", "tests.kit.apps.asgi:app"),
    "uvicorn with wsproto": _python("uvicorn", "--port=PORT", "--http=h11", "--ws=wsproto", "tests.kit.apps.asgi:app"),
    "aiohttp": _python("aiohttp.web", "--hostname=127.0.0.1", "--port=PORT", "tests.kit.apps.on_aiohttp:init"),
    "http.server": _python("tests.kit.apps.stdlib", "PORT"),
    "node": _node,
    "tomcat": _tomcat,
    "php": _php,
    "nginx": _nginx,
    "apache": _apache,
}
FILES_ONLY = {"nginx", "apache"}
WITH_WEBSOCKETS = {"uvicorn", "uvicorn with wsproto", "aiohttp", "tomcat"}
