#!/bin/sh
# Installs or upgrades mcproxy from this source tree. Running it again changes only what is not as it should be.
#
#   install.sh [--prefix DIR] [--root DIR] [--python PROGRAM] [--supervisor]
#   install.sh --uninstall [--prefix DIR] [--root DIR]
#
#   --prefix DIR     where it lives; default /srv/mcproxy
#   --root DIR       install into the tree below DIR, which is to be another machine's /
#   --python PROGRAM the Python to use, 3.11 or later; default python3
#   --supervisor     for supervisord rather than systemd
#   --uninstall      remove the program and what starts it; configuration, database, backups and user stay
set -eu
umask 022

prefix=/srv/mcproxy
root=
python=python3
supervisor=
uninstall=
account=mcproxy

usage() {
	sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
	exit "$1"
}

while [ $# -gt 0 ]; do
	case $1 in
	--prefix | --root | --python)
		[ $# -gt 1 ] || usage 2 >&2
		case $1 in
		--prefix) prefix=$2 ;;
		--root) root=${2%/} ;;
		--python) python=$2 ;;
		esac
		shift
		;;
	--supervisor) supervisor=yes ;;
	--uninstall) uninstall=yes ;;
	-h | --help) usage 0 ;;
	*)
		echo "install.sh: unknown argument $1" >&2
		usage 2 >&2
		;;
	esac
	shift
done

case $prefix in
/*[!A-Za-z0-9._/-]*) echo "install.sh: --prefix: letters, digits, '.', '_' and '-' only: $prefix" >&2 && exit 2 ;;
/?*) prefix=${prefix%/} ;;
*) echo "install.sh: --prefix must be an absolute path, and not /" >&2 && exit 2 ;;
esac

source=$(cd "$(dirname "$0")/../.." && pwd)
home=$root$prefix
units=$root/etc/systemd/system
programs=$root/etc/supervisor/conf.d
may_chown=
[ "$(id -u)" = 0 ] && may_chown=yes

if [ -z "$root" ] && [ -z "$may_chown" ]; then
	echo "install.sh: must run as root, or with --root DIR" >&2
	exit 1
fi

say() {
	echo "install.sh: $*"
}

# Whether this is the running machine's own systemd.
on_systemd() {
	[ -z "$root" ] && [ -d /run/systemd/system ]
}

# put MODE FILE TARGET: copies a file with the prefix in it, if it differs from what is there.
put() {
	wanted=$(sed "s|/srv/mcproxy|$prefix|g" "$2" && echo .)
	if [ -e "$3" ] && [ "$(cat "$3" && echo .)" = "$wanted" ]; then
		chmod "$1" "$3"
		return
	fi
	mkdir -p "$(dirname "$3")"
	printf %s "${wanted%.}" >"$3.new"
	chmod "$1" "$3.new"
	mv "$3.new" "$3"
	say "wrote $3"
}

remove() {
	for each in "$@"; do
		if [ -e "$each" ]; then
			rm -rf "$each"
			say "removed $each"
		fi
	done
}

if [ -n "$uninstall" ]; then
	if on_systemd; then
		for unit in mcproxy.service mcproxy.socket mcproxy-backup.timer mcproxy-metrics.timer; do
			systemctl disable --quiet --now "$unit" 2>/dev/null || true
		done
	fi
	for unit in "$source"/deploy/systemd/* "$source"/deploy/prometheus/mcproxy-metrics.*; do
		remove "$units/$(basename "$unit")"
	done
	remove "$programs/mcproxy.conf" "$home/venv" "$home/bin" "$home/mcproxy.toml.example"
	if on_systemd; then
		systemctl daemon-reload
	fi
	say "$home/mcproxy.toml, $home/data and $home/backups stay, and so does the user $account"
	exit 0
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	echo "install.sh: $python is older than Python 3.11; name another one with --python" >&2
	exit 1
}
"$python" -c 'import ensurepip' 2>/dev/null || {
	echo "install.sh: $python can't make virtual environments; on Debian: apt-get install python3-venv" >&2
	exit 1
}

# Its own user. A tree without a passwd of its own gets it on the machine where it is to run.
if [ -n "$may_chown" ] && [ -e "$root/etc/passwd" ] && ! grep -q "^$account:" "$root/etc/passwd"; then
	useradd ${root:+--prefix "$root"} --system --user-group --no-create-home --home-dir "$prefix" \
		--shell /usr/sbin/nologin "$account"
	say "added the user $account"
fi
user_id=$(sed -n "s/^$account:[^:]*:\([0-9]*\):\([0-9]*\):.*/\1:\2/p" "$root/etc/passwd" 2>/dev/null || true)

# The program and its folder are root's: what runs as mcproxy can't change what it runs.
mkdir -p "$home"
for folder in data backups; do
	if [ ! -d "$home/$folder" ]; then
		mkdir -m 0700 "$home/$folder"
		say "made $home/$folder"
	fi
	if [ -n "$may_chown" ] && [ -n "$user_id" ]; then
		chown "$user_id" "$home/$folder"
	fi
done

# A build inside the source tree would leave its files there, and take in what an older one has left.
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
(cd "$source" && tar -cf - --exclude=__pycache__ mcproxy docs/mcproxy.1 setup.cfg setup.py pyproject.toml README.md) | tar -xf - -C "$build"
if [ ! -x "$home/venv/bin/python" ]; then
	"$python" -m venv "$home/venv"
	say "made $home/venv"
fi
say "installing mcproxy and what it imports, which takes a minute"
"$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-warn-script-location --upgrade "${build}[acme,postgresql]"
if [ -n "$root" ]; then
	# Scripts name their interpreter; it is to be found where the tree will be.
	grep -rlI --null "$home/venv" "$home/venv/bin" "$home/venv/pyvenv.cfg" | xargs -0 -r sed -i "s|$home/venv|$prefix/venv|g"
fi
say "installed $("$home/venv/bin/python" -m mcproxy --version)"

for script in backup.sh prune-backups.sh publish-metrics.sh; do
	put 0755 "$source/deploy/scripts/$script" "$home/bin/$script"
done
put 0644 "$source/etc/mcproxy.toml.example" "$home/mcproxy.toml.example"
if [ ! -e "$home/mcproxy.toml" ]; then
	put 0640 "$source/deploy/mcproxy.toml" "$home/mcproxy.toml"
fi
if [ -n "$may_chown" ] && [ -n "$user_id" ]; then
	chown "0:${user_id#*:}" "$home/mcproxy.toml"
fi

if [ -n "$supervisor" ]; then
	put 0644 "$source/etc/supervisor/conf.d/mcproxy.conf" "$programs/mcproxy.conf"
	# supervisord writes logs that everybody may read; they name every client. adm is Debian's group of who reads logs.
	if [ ! -d "$root/var/log/mcproxy" ]; then
		mkdir -p "$root/var/log"
		mkdir -m 0750 "$root/var/log/mcproxy"
		say "made $root/var/log/mcproxy"
	fi
	if [ -n "$may_chown" ] && grep -q '^adm:' "$root/etc/group" 2>/dev/null; then
		chown "0:$(sed -n 's/^adm:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group")" "$root/var/log/mcproxy"
	fi
	next="supervisorctl update"
	if grep -q '^addr *= *"unix:/run/' "$home/mcproxy.toml"; then
		say "$home/mcproxy.toml: only systemd makes folders below /run at every boot: change [grpc] addr to \"unix:data/admin.sock\""
	fi
else
	for unit in "$source"/deploy/systemd/* "$source"/deploy/prometheus/mcproxy-metrics.*; do
		put 0644 "$unit" "$units/$(basename "$unit")"
	done
	if on_systemd; then
		systemctl daemon-reload
	fi
	next="systemctl enable --now mcproxy mcproxy-backup.timer"
fi
say "done. Look at $prefix/mcproxy.toml, then: $prefix/venv/bin/mcproxy check && $next"
say "after an upgrade: systemctl reload-or-restart mcproxy (or supervisorctl signal HUP mcproxy)"
