"""A machine for RUNBOOK.md: an installation of its own, and stand-ins for what is PID 1's business."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.kit.geoip_files import located, write_database
from tests.kit.peers import DEADLINE, free_port, until
from tests.kit.postgres import PostgresServer, program
from tests.kit.program import ROOT, WORKERS
from tests.kit.screen import Terminal

TIMEOUT = 900.0  # seconds for one command; install.sh needs the package index

# systemctl and journalctl for one service: a process, its number and its output in files.
SYSTEMCTL = """\
#!/bin/sh
state=@root@/state
end() {
	[ -e $state/pid ] || return 0
	kill -TERM $(cat $state/pid)
	tail --pid=$(cat $state/pid) -f /dev/null
	rm $state/pid
}
lines() {
	touch $state/log
	grep -c "$1" $state/log
}
begin() {
	before=$(lines 'started, generation')
	setsid mcproxy server >>$state/log 2>&1 </dev/null &
	echo $! >$state/pid
	until [ $(lines 'started, generation') -gt $before ]; do
		kill -0 $(cat $state/pid) || { cat $state/log; exit 1; } # it could not start
		sleep 0.1
	done
}
reload() { # as deploy/systemd/mcproxy.service has it done; systemd follows the main process by itself
	before=$(lines reloaded) over=$(lines 'has taken over from')
	mcproxy server --reload $(cat $state/pid) >>$state/log 2>&1
	status=$?
	if [ $(lines 'has taken over from') -gt $over ]; then
		sed -n 's/^mcproxy: process \\([0-9]*\\) has taken over from.*/\\1/p' $state/log | tail -1 >$state/pid
	else
		until [ $(lines reloaded) -gt $before ]; do sleep 0.1; done
	fi
	[ $status = 0 ] || {
		echo "Job for mcproxy.service failed."
		echo 'See "systemctl status mcproxy.service" and "journalctl -xeu mcproxy.service" for details.'
		exit 1
	}
}
export MCPROXY=@root@/bin/mcproxy BACKUPS=@root@/srv/mcproxy/backups
case "$*" in
"start mcproxy-backup.service") @root@/srv/mcproxy/bin/backup.sh >>$state/log ;;
"enable --now mcproxy mcproxy-backup.timer" | "start mcproxy") begin ;;
"stop mcproxy") end ;;
"restart mcproxy") end && begin ;;
"reload mcproxy" | "reload-or-restart mcproxy") reload ;;
"status mcproxy") mcproxy status ;;
*) echo "systemctl: $*?" >&2; exit 1 ;;
esac
"""
JOURNALCTL = """\
#!/bin/sh
exec tail "$3" "$4" @root@/state/log
"""
SUDO = """\
#!/bin/sh
shift 2
exec "$@"
"""
CHOWN = """\
#!/bin/sh
"""
POSTGRES = """\
#!/bin/sh
exec @program@ --host=127.0.0.1 --port=@port@ --username=postgres "$@"
"""
PROGRAM = """\
#!/bin/sh
exec @root@/srv/mcproxy/venv/bin/python -I -m mcproxy "$@"
"""


class Machine:
    """Where the commands run."""

    def __init__(self, root: Path, database: PostgresServer) -> None:
        """`database` is db.example.org."""
        self.root = root
        self._database = f"127.0.0.1:{database.port}"
        self.addr = f"127.0.0.1:{free_port()}"
        self.api = free_port()
        for folder in ("bin", "etc", "state", "srv/mcproxy"):
            (root / folder).mkdir(parents=True)
        scripts = {"systemctl": SYSTEMCTL, "journalctl": JOURNALCTL, "sudo": SUDO, "chown": CHOWN, "mcproxy": PROGRAM}
        for name, text in scripts.items():
            (root / "bin" / name).write_text(text.replace("@root@", str(root)))
            (root / "bin" / name).chmod(0o755)
        for name in ("createuser", "createdb"):
            text = POSTGRES.replace("@program@", program(name)).replace("@port@", str(database.port))
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        # install.sh leaves a configuration alone that is there: one for this machine's ports and folders.
        text = (ROOT / "deploy" / "mcproxy.toml").read_text().replace(":443", self.addr)
        with_countries = text.replace("[firewall]\n", '[firewall]\ngeoip_db = "country.mmdb"\n')
        whole = with_countries.replace("[proxy]\n", f"[proxy]\nworkers = {WORKERS}\n")
        assert len({text, with_countries, whole}) == 3
        (root / "srv/mcproxy/mcproxy.toml").write_text(whole)
        write_database(root / "srv/mcproxy/country.mmdb", {"2001:db8:a::/48": located("AQ")})

    def here(self, text: str) -> str:
        """A command of the page in the words of this machine."""
        text = text.replace("/srv/mcproxy", f"{self.root}/srv/mcproxy").replace(":443", self.addr)
        text = text.replace("proxy.example.org:9090", f"127.0.0.1:{self.api}").replace(":9090", f":{self.api}")
        text = text.replace("@db.example.org/", f"@{self._database}/")
        return text.replace(
            "deploy/scripts/install.sh", f"deploy/scripts/install.sh --root {self.root} --python {sys.executable}"
        )

    def run(self, command: str) -> str:
        """What a shell on a terminal shows; no colours."""
        terminal = Terminal()
        path = f"{self.root}/bin:{os.environ['PATH']}"
        config = str(self.root / "srv/mcproxy/mcproxy.toml")
        env = {"PATH": path, "TERM": "xterm", "NO_COLOR": "1", "MCPROXY_CONFIG": config, "HOME": str(self.root)}
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_", "http"))}
        try:
            subprocess.run(
                ["sh", "-c", self.here(command)], env={**kept, **env}, cwd=ROOT, stdin=subprocess.DEVNULL,
                stdout=terminal.descriptor, stderr=terminal.descriptor, start_new_session=True, timeout=TIMEOUT,
                check=False,
            )  # fmt: skip
        finally:
            shown = terminal.close()
        shown = shown.replace(f"@{self._database}/", "@db.example.org/")
        return shown.replace(str(self.root), "").replace(self.addr, ":443")

    def log(self) -> str:
        """The end of what the service has written."""
        log = self.root / "state/log"
        return "".join(log.read_text().splitlines(keepends=True)[-15:]) if log.exists() else ""

    def close(self) -> None:
        """End what still runs."""
        number = self.root / "state/pid"
        if number.exists():
            self.run("systemctl stop mcproxy")
        until(lambda: not number.exists(), f"the server to end within {DEADLINE:g} s")
        shutil.rmtree(self.root)
