#!/bin/sh
# Installs Debian packages, as root or through sudo, and shows how far it is. Usage: apt-install.sh PACKAGE...
set -eu
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
# A line for each package that is fetched and set up, and what went wrong; ends with the status in apt-get's last line.
show() {
	status=1
	while read -r word rest; do
		# shellcheck disable=SC2086 # the words of a line
		case $word in
		Get:*) set -- $rest && echo "  fetching $4" ;;
		Setting) set -- $rest && echo "  setting up $2" ;;
		E: | W:) echo "$word $rest" >&2 ;;
		status) status=$rest ;;
		esac
	done
	return "$status"
}
if ! command -v apt-get >/dev/null; then
	echo "apt-install.sh: needed, and no apt-get here to install it: $*" >&2
	exit 1
fi
echo "installing with apt-get: $*"
export DEBIAN_FRONTEND=noninteractive
as_root apt-get update -qq
{
	as_root apt-get install -y -q --no-install-recommends "$@" 2>&1 && echo "status 0" || echo "status $?"
} | show
