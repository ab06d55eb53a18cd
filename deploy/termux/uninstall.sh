#!/data/data/com.termux/files/usr/bin/sh
# Removes Curupira from a phone and leaves nothing: program, services, logs, outbox, journal, key, configuration.
# Alerts that the station has not receipted are not thrown away without a word. Exit codes: 0 done, 1 refused, 2 wrong use.
set -eu

PREFIX="${PREFIX:-/data/data/com.termux/files/usr}"
HOME="${HOME:-/data/data/com.termux/files/home}"
SVDIR="$PREFIX/var/service"
export PREFIX HOME SVDIR
OPT="$PREFIX/opt/curupira"
CONFIG="$HOME/.config/curupira"
STATE="$HOME/.local/share/curupira"
SERVICES="curupira curupira-watch curupira-pulse"

usage() {
    cat <<'TEXT'
usage: sh uninstall.sh [--keep] [--discard-alerts] [--packages]
  --keep             keep outbox, journal, key and configuration
  --discard-alerts   remove even alerts that the station has not receipted yet
  --packages         remove also the Termux packages that install.sh installed
TEXT
}

keep=no
discard=no
packages=no
for argument in "$@"; do
    case "$argument" in
        --keep) keep=yes ;;
        --discard-alerts) discard=yes ;;
        --packages) packages=yes ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
done

# where the configuration says that the phone's files are, and how many alerts wait there
read_state() {
    PYTHONPATH="$OPT/current" python -P - "$CONFIG/config.yaml" <<'TEXT'
import sys
from pathlib import Path

from agent.config import read_config
from agent.outbox import Outbox

folder = read_config(Path(sys.argv[1])).storage.folder
waiting = 0
if (folder / "outbox.db").exists():
    with Outbox(folder / "outbox.db") as outbox:
        waiting = outbox.counts().waiting
print(waiting, folder)
TEXT
}

for service in $SERVICES; do
    [ -d "$SVDIR/$service" ] || continue
    sv down "$SVDIR/$service" >/dev/null 2>&1 || true
    touch "$SVDIR/$service/again" # ends a pause of the back-off
    sv force-stop "$SVDIR/$service" >/dev/null 2>&1 || true
done

if [ "$keep" = no ] && [ -f "$CONFIG/config.yaml" ]; then
    if found=$(read_state); then
        waiting=${found%% *}
        STATE=${found#* }
    else
        waiting=unknown
    fi
    if [ "$waiting" != 0 ] && [ "$discard" = no ]; then
        echo "error: alerts that the station has not receipted: $waiting; nothing was removed" >&2
        echo "  by hand: let the phone reach the station and run this again, or give --discard-alerts, or --keep" >&2
        for service in $SERVICES; do sv up "$SVDIR/$service" >/dev/null 2>&1 || true; done
        exit 1
    fi
fi

for service in $SERVICES; do
    if [ -d "$SVDIR/$service" ]; then
        sv force-shutdown "$SVDIR/$service" >/dev/null 2>&1 || true
        rm -rf "${SVDIR:?}/$service"
    fi
    rm -rf "${SVDIR:?}/.$service.new" "$PREFIX/var/log/sv/$service"
done
if [ "$packages" = yes ] && [ -f "$OPT/packages" ]; then
    # shellcheck disable=SC2046  # a list of words
    pkg uninstall -y $(cat "$OPT/packages") || echo "pkg could not remove: $(tr '\n' ' ' <"$OPT/packages")" >&2
elif [ -f "$OPT/packages" ]; then
    echo "packages that were installed for it stay; to remove them: pkg uninstall $(tr '\n' ' ' <"$OPT/packages")"
fi
rm -rf "$OPT" "$PREFIX/bin/curupira" "$HOME/.termux/boot/10-curupira"
[ "$keep" = yes ] || rm -rf "$CONFIG" "$STATE"
# folders that were made on the way and hold nothing else
for folder in "$PREFIX/opt" \
    "$PREFIX/var/log/sv" "$PREFIX/var/log" "$HOME/.termux/boot" "$HOME/.termux" "$HOME/.config" "$HOME/.local/share" "$HOME/.local"; do
    rmdir "$folder" 2>/dev/null || true
done
echo "curupira is removed"
