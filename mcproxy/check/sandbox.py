"""What the service can't see although this shell can: systemd hides folders from it (systemd.exec(5), 'SANDBOXING').

With PrivateTmp= the service has a /tmp and a /var/tmp of its own, with ProtectHome= empty homes. A backend's socket or
a certificate there is found from a shell, by `mcproxy check` too, and not by the service.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mcproxy.check.found import Found, warning
from mcproxy.check.loaded import Loaded
from mcproxy.configuration import Config
from mcproxy.model import Mode

UNIT = "mcproxy.service"
# Where systemd looks for units, the first place that has one first (systemd.unit(5)).
_PLACES = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
UNIT_FOLDERS = tuple(map(Path, _PLACES))

_SETTING = re.compile(r"^(PrivateTmp|ProtectHome)\s*=\s*(\S*)\s*$", re.MULTILINE)
_HIDDEN = {"PrivateTmp": ("/tmp", "/var/tmp"), "ProtectHome": ("/home", "/root", "/run/user")}  # noqa: S108 - names
_HIDING = {"1", "yes", "true", "on", "tmpfs", "disconnected"}  # and "read-only" doesn't hide


def check_sandbox(config: Config, loaded: Loaded | None, folders: Sequence[Path] = UNIT_FOLDERS) -> Iterator[Found]:
    """Every path of the configuration or the table that the installed unit hides."""
    hidden = _hidden(folders)
    for key, path in _paths(config, loaded) if hidden else ():
        for folder, setting in hidden.items():
            if Path(path).is_relative_to(folder):
                text = f"{path} is hidden from the service by {setting}= in {UNIT}, though not from this shell"
                yield warning(key, f"{text}: keep it elsewhere, or change the unit (systemctl edit mcproxy)")


def _hidden(folders: Sequence[Path]) -> dict[str, str]:
    """The folders that the unit hides, each with the setting that does; none without a unit."""
    unit = next((folder / UNIT for folder in folders if (folder / UNIT).is_file()), None)
    if unit is None:
        return {}
    changes = [each for folder in folders for each in (folder / f"{UNIT}.d").glob("*.conf")]
    texts = [each.read_text(errors="replace") for each in (unit, *sorted(changes, key=lambda path: path.name))]
    settings = dict(_SETTING.findall("\n".join(texts)))
    return {folder: name for name, value in settings.items() if value.lower() in _HIDING for folder in _HIDDEN[name]}


def _paths(config: Config, loaded: Loaded | None) -> Iterator[tuple[str, str]]:
    """Every path that the server opens or connects to, with its key or row."""
    yield config.database.key, str(config.database.file)
    yield "firewall.geoip_db", config.firewall.geoip_db
    if config.acme:
        yield "acme.ca", config.acme.ca
    if config.grpc:
        for name in ("tls_cert", "tls_key", "client_ca"):
            yield f"grpc.{name}", getattr(config.grpc, name)
    if loaded is None:
        return
    for addr, listener in loaded.table.listeners.items():
        for route in listener.routes.values():
            files = ("tls_cert", "tls_key", "backend_ca") if route.mode is Mode.L7 else ()
            for name, path in (("backend", route.backend.path), *((each, getattr(route, each)) for each in files)):
                yield loaded.route(addr, route.hostname, name), path
