#!/bin/sh
# Gives node_exporter's textfile collector a file of metrics, whole: mcproxy-metrics.service runs this as root.
#
#   publish-metrics.sh FILE FOLDER
#
# The folder is the collector's user's, who may put a symbolic link wherever root would write. So this becomes the user
# that the folder belongs to before it touches anything there: a link leads no further than its owner may write anyway.
set -eu

[ $# = 2 ] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
file=$1
folder=$2

[ -d "$folder" ] || { echo "publish-metrics.sh: there is no folder $folder: install prometheus-node-exporter" >&2; exit 1; }
owner=$(stat -c %u "$folder") # of a link itself, not of what it leads to
group=$(stat -c %g "$folder")
set --
if [ "$(id -u)" = 0 ] && [ "$owner" != 0 ]; then
	set -- setpriv --reuid="$owner" --regid="$group" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all
fi
# The owner may reach neither this script nor the file: it is given what to run, and the file already open.
# shellcheck disable=SC2016 # expanded by the shell that it is for
exec "$@" sh -euc '
	new=$(mktemp "$1/.mcproxy.XXXXXX")
	trap '\''rm -f "$new"'\'' EXIT
	cat >"$new"
	chmod 0644 "$new"
	mv -T "$new" "$1/mcproxy.prom"
' sh "$folder" <"$file"
