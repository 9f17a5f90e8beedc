#!/bin/sh
# Takes a verified snapshot of the database into BACKUPS, while the server runs or not, and prunes the older ones.
# mcproxy-backup.timer runs it every night; by hand: sudo -u mcproxy /srv/mcproxy/bin/backup.sh
#
# From the environment, with these defaults:
#   MCPROXY=/srv/mcproxy/venv/bin/mcproxy   MCPROXY_CONFIG=/srv/mcproxy/mcproxy.toml   BACKUPS=/srv/mcproxy/backups
#   KEEP="--daily 7 --weekly 5 --monthly 12"
#
# A backup on the same disk is half a backup: bring the folder to another machine, with rsync for example. To restore
# one: RUNBOOK.md.
set -eu
mcproxy=${MCPROXY:-/srv/mcproxy/venv/bin/mcproxy}
config=${MCPROXY_CONFIG:-/srv/mcproxy/mcproxy.toml}
backups=${BACKUPS:-/srv/mcproxy/backups}
keep=${KEEP:---daily 7 --weekly 5 --monthly 12}

umask 077
mkdir -p "$backups"
"$mcproxy" snapshot -c "$config" -o "$backups/mcproxy-$(date -u +%Y%m%dT%H%M%SZ).db"
# shellcheck disable=SC2086 # KEEP is a list of arguments
"$(dirname "$0")/prune-backups.sh" $keep "$backups"
