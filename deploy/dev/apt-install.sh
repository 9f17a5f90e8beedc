#!/bin/sh
# Installs Debian packages, as root or through sudo. Usage: apt-install.sh PACKAGE...
set -eu
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
if ! command -v apt-get >/dev/null; then
	echo "apt-install.sh: needed, and no apt-get here to install it: $*" >&2
	exit 1
fi
echo "installing with apt-get: $*"
export DEBIAN_FRONTEND=noninteractive
as_root apt-get update -qq
as_root apt-get install -y -qq --no-install-recommends "$@" >/dev/null
