#!/bin/sh
# Installs the base station from this bundle, or turns to it from another version. Needs no network.
set -eu

usage() {
    cat <<'USAGE'
use: install.sh [--state DIR] [--root DIR] [--python PYTHON] [--no-start]

Installs the station as the service curupira-station, with a backup each night (curupira-station-backup.timer), from
this folder alone. Run it again from another bundle to upgrade or to go back: database, keys and settings stay. Before
another version touches the database, a backup is made.

  --state DIR       keep the database there, for a read-only root file system (default: /var/lib/curupira-station)
  --root DIR        install into this folder: an image that is being built
  --python PYTHON   the interpreter to use (default: /usr/bin/python3)
  --no-start        do not start it

Exit codes: 0 done, 1 it failed and what was there goes on, 2 wrong use or wrong machine.
USAGE
}

name=curupira-station
here=$(cd "$(dirname "$0")" && pwd)
root='' state_at='' python=/usr/bin/python3 start=yes
while [ $# -gt 0 ]; do
    case $1 in
    --state | --root | --python)
        [ $# -ge 2 ] || { printf 'error: %s: needs a value\n' "$1" >&2 && exit 2; }
        case $1 in
        --state) state_at=$2 ;;
        --root) root=${2%/} ;;
        --python) python=$2 ;;
        esac
        shift
        ;;
    --no-start) start= ;;
    --help | -h) usage && exit 0 ;;
    *) printf 'error: %s: unknown; see --help\n' "$1" >&2 && exit 2 ;;
    esac
    shift
done
# shellcheck source=deploy/linux/common/release.sh
. "$here/release.sh"

# shellcheck disable=SC2034  # for release.sh
system_site=
# shellcheck disable=SC2034  # for release.sh
proof='
import sys
try:
    import base_station.api, base_station.pages.site_map, base_station.serve
    from agent import VERSION
except Exception as error:
    sys.exit("error: " + str(error).strip().splitlines()[-1])
print("station", VERSION, "imports")
'

put_settings() {
    mkdir -p "$root$etc"
    chmod 755 "$root$etc"
    [ ! -e "$root$etc/station.env" ] || return 0
    cp "$here/service/station.env" "$root$etc/.station.env.new"
    chmod 600 "$root$etc/.station.env.new"
    mv -f "$root$etc/.station.env.new" "$root$etc/station.env"
}

need_root
check_bundle
choose_python
stage
before=$(current) || before=
if live && [ -n "$before" ] && [ "$before" != "$release" ]; then
    systemctl start curupira-station-backup.service ||
        die "no backup could be made before the change; see: journalctl -u curupira-station-backup -n 20"
fi
put_settings
turn_to "$release"
put_units
if [ -n "$state_at" ]; then put_state_mount "$state_at"; fi
enable_unit curupira-station.service multi-user.target
enable_unit curupira-station-backup.timer timers.target
if [ -n "$start" ]; then
    start_or_go_back "$before" curupira-station.service :
    if live; then systemctl start curupira-station-backup.timer; fi
fi
prune
say "installed: $opt/current is $release; settings are in $etc/station.env"
