#!/bin/sh
# Removes the agent and leaves nothing: program, services, configuration, key, outbox and journal.
set -eu

usage() {
    cat <<'USAGE'
use: uninstall.sh [--keep | --purge] [--root DIR]

Removes the agent with all that it wrote. While alerts wait that no station has, it stops instead (exit 1):

  --keep       remove the program; leave configuration, key, outbox and journal
  --purge      remove all, with the alerts that wait
  --root DIR   uninstall from this folder

What systemd's own journal has heard of it stays there (journalctl --vacuum-time removes it).
USAGE
}

name=curupira
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

waiting() {
    enter_root
    if [ ! -e "$root$state/outbox.db" ]; then
        echo 0
    else
        # what cannot be read must not be taken for empty
        run "$inside$opt/current/venv/bin/python" -P -c '
import sqlite3, sys
with sqlite3.connect(f"file:{sys.argv[1]}?mode=rw", uri=True) as outbox:
    print(outbox.execute("SELECT count(*) FROM messages WHERE parked IS NULL").fetchone()[0])
' "$inside$state/outbox.db" 2>/dev/null || echo unknown
    fi
}

need_root
if live; then systemctl stop curupira-agent.service 2>/dev/null || true; fi
if [ "$data" = ask ]; then
    n=$(waiting)
    if [ "$n" != 0 ]; then
        if live; then systemctl start curupira-agent.service 2>/dev/null || true; fi
        die "$n alerts wait in $state that no station has; nothing was removed: bring the device to its station, or choose --keep or --purge"
    fi
fi
remove_units curupira-agent.service curupira-agent-doctor.service
rm -rf "$root${opt:?}"
if [ "$data" = keep ]; then
    say "removed the program; kept $etc and $state"
else
    remove_state "$name"
    rm -rf "$root${etc:?}"
    say "removed; nothing is left"
fi
