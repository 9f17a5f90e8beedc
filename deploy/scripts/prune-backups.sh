#!/bin/sh
# Removes the backups that are no longer needed from a folder of backup.sh's.
#
#   prune-backups.sh [--daily N] [--weekly N] [--monthly N] [--dry-run] DIR
#
# What stays: the newest, whatever is asked for; and the last backup of each of the last N days, ISO weeks and months
# that have one. Defaults: 7, 5, 12. Only files named mcproxy-YYYYMMDDTHHMMSSZ.db are looked at; a folder that holds
# none of them is not ours, and is refused.
set -eu

daily=7
weekly=5
monthly=12
dry_run=
folder=

fail() {
	echo "prune-backups.sh: $*" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--daily | --weekly | --monthly)
		[ $# -gt 1 ] || fail "$1 needs a number"
		case $2 in
		'' | *[!0-9]*) fail "$1 needs a number, not '$2'" ;;
		esac
		case $1 in
		--daily) daily=$2 ;;
		--weekly) weekly=$2 ;;
		--monthly) monthly=$2 ;;
		esac
		shift
		;;
	--dry-run) dry_run=yes ;;
	-*) fail "unknown argument $1" ;;
	*)
		[ -z "$folder" ] || fail "one folder at a time"
		folder=$1
		;;
	esac
	shift
done
[ -n "$folder" ] || fail "which folder?"
[ -d "$folder" ] || fail "$folder is no folder"

digit='[0-9]'
day=$digit$digit$digit$digit$digit$digit$digit$digit
clock=$digit$digit$digit$digit$digit$digit
ours=$(find "$folder" -maxdepth 1 -type f -name "mcproxy-${day}T${clock}Z.db" | sort -r)
[ -n "$ours" ] || fail "$folder holds no backup of mcproxy's; is this the right folder?"

days=0
weeks=0
months=0
last_day=
last_week=
last_month=
newest=yes
IFS='
'
for file in $ours; do
	name=${file##*/mcproxy-}
	stamp=${name%T*}
	week=$(date -u -d "$stamp" +%G-%V) || fail "$file has an invalid date"
	month=${stamp%??}
	why=
	if [ -n "$newest" ]; then
		why=newest
		newest=
	fi
	if [ "$stamp" != "$last_day" ]; then
		last_day=$stamp
		days=$((days + 1))
		[ "$days" -gt "$daily" ] || why="$why daily"
	fi
	if [ "$week" != "$last_week" ]; then
		last_week=$week
		weeks=$((weeks + 1))
		[ "$weeks" -gt "$weekly" ] || why="$why weekly"
	fi
	if [ "$month" != "$last_month" ]; then
		last_month=$month
		months=$((months + 1))
		[ "$months" -gt "$monthly" ] || why="$why monthly"
	fi
	if [ -n "$why" ]; then
		[ -z "$dry_run" ] || echo "keeps   $file ($(echo "$why" | sed 's/^ //'))"
	elif [ -n "$dry_run" ]; then
		echo "removes $file"
	else
		rm -f "$file"
		echo "removed $file"
	fi
done
