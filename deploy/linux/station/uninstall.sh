#!/bin/sh
# Removes the base station. Its alerts exist nowhere else, so that what becomes of them must be said.
set -eu

usage() {
    cat <<'USAGE'
use: uninstall.sh [--keep | --purge] [--root DIR]

Removes the station with all that it wrote. If it holds a database, it stops instead (exit 1):

  --keep       remove the program; leave settings, database, keys and backups
  --purge      remove all: alerts, evidence, device keys, backups
  --root DIR   uninstall from this folder

A PostgreSQL database is never touched, nor what systemd's own journal has heard.
USAGE
}

name=curupira-station
here=$(cd "$(dirname "$0")" && pwd)
root='' data=ask
while [ $# -gt 0 ]; do
    case $1 in
    --keep) data=keep ;;
    --purge) data=purge ;;
    --root)
        [ $# -ge 2 ] || { printf 'error: %s: needs a value\n' "$1" >&2 && exit 2; }
        root=${2%/}
        shift
        ;;
    --help | -h) usage && exit 0 ;;
    *) printf 'error: %s: unknown; see --help\n' "$1" >&2 && exit 2 ;;
    esac
    shift
done
# shellcheck source=deploy/linux/common/release.sh
. "$here/release.sh"

need_root
if [ "$data" = ask ]; then
    for database in "$root$state/station.db" "$root$state-backups"/*; do
        [ ! -e "$database" ] || die "$database: holds alerts and evidence; nothing was removed: choose --keep or --purge"
    done
fi
remove_units curupira-station.service curupira-station-backup.timer curupira-station-backup.service
rm -rf "$root${opt:?}"
rm -rf "$root/var/lib/systemd/timers/stamp-curupira-station-backup.timer"
if [ "$data" = keep ]; then
    say "removed the program; kept $etc, $state and $state-backups"
else
    remove_state "$name"
    remove_state "$name-backups"
    rm -rf "$root${etc:?}"
    say "removed; nothing is left"
fi
