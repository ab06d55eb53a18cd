#!/bin/sh
# Installs the agent from this bundle, or turns to it from another version. Needs no network.
set -eu

usage() {
    cat <<'USAGE'
use: install.sh [--config DIR] [--card NAME] [--state DIR] [--root DIR] [--python PYTHON] [--no-start]

Installs the agent as the service curupira-agent, from this folder alone. Run it again from another bundle to
upgrade or to go back: outbox, journal, keys and configuration stay.

  --config DIR      take config.yaml, device.key and ca.pem from there, as provisioning wrote them
  --card NAME       the microphone's card (see: arecord -l); without it, the first card that records
  --state DIR       keep outbox and journal there, for a read-only root file system (default: /var/lib/curupira)
  --root DIR        install into this folder: an image that is being built
  --python PYTHON   the interpreter to use (default: /usr/bin/python3)
  --no-start        do not start it

Exit codes: 0 done, 1 it failed and what was there goes on, 2 wrong use or wrong machine.
USAGE
}

name=curupira
here=$(cd "$(dirname "$0")" && pwd)
root='' config='' card='' state_at='' python=/usr/bin/python3 start=yes
while [ $# -gt 0 ]; do
    case $1 in
    --config | --card | --state | --root | --python)
        [ $# -ge 2 ] || { printf 'error: %s: needs a value\n' "$1" >&2 && exit 2; }
        case $1 in
        --config) config=$2 ;;
        --card) card=$2 ;;
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

# pi32: NumPy is the system's package
system_site=
# shellcheck disable=SC2034  # for release.sh
if grep -q '"numpy": "python3-numpy"' "$here/manifest.json"; then system_site=--system-site-packages; fi
# Not only an import: the model's golden answers, on this processor.
# shellcheck disable=SC2034  # for release.sh
proof='
import sys
try:
    from agent.classify import load_classifier
    from agent.manifest import BUNDLED_MODEL, load_model
    found = load_classifier(*load_model(BUNDLED_MODEL))
except Exception as error:
    sys.exit("error: " + str(error).strip().splitlines()[-1])
xnnpack = "with" if found.xnnpack else "without"
print(f"model {found.manifest.digest} on {found.runtime}, {xnnpack} XNNPACK: golden answers right")
'

# The name, not the number: numbers change with the order in which cards are found.
first_card() {
    for pcm in /proc/asound/card*/pcm*c; do
        [ -e "$pcm" ] || continue
        cat "${pcm%/*}/id"
        return 0
    done
}

# What will be the configuration, beside the one in use: given files before those that are there, a template before none.
stage_config() {
    staged=$etc/.staged
    rm -rf "$root${staged:?}"
    mkdir -p "$root$staged"
    chmod 755 "$root$etc"
    chmod 700 "$root$staged"
    for file in config.yaml device.key ca.pem; do
        if [ -n "$config" ] && [ -f "$config/$file" ]; then
            cp "$config/$file" "$root$staged/$file"
        elif [ -f "$root$etc/$file" ]; then
            cp "$root$etc/$file" "$root$staged/$file"
        fi
    done
    [ -f "$root$staged/config.yaml" ] || write_template
    chmod 600 "$root$staged"/*
}

write_template() {
    if [ -z "$card" ] && [ -z "$root" ]; then card=$(first_card); fi
    device=$(uname -n | tr '[:upper:]' '[:lower:]' | tr -cd 'a-z0-9._-')
    pcm=default
    [ -z "$card" ] || pcm=plughw:CARD=$card,DEV=0
    sed "s/@PCM@/$pcm/; s/@DEVICE@/${device:-unnamed}/" "$here/service/config.yaml" >"$root$staged/config.yaml"
    say "wrote $etc/config.yaml, microphone $pcm: name the station in it, and put its key beside it"
}

take_config() {
    replaced=$etc/.replaced
    rm -rf "$root${replaced:?}"
    mkdir -m 700 "$root$replaced"
    for file in "$root$staged"/*; do
        [ ! -f "$root$etc/${file##*/}" ] || cp -p "$root$etc/${file##*/}" "$root$replaced/"
        mv -f "$file" "$root$etc/"
    done
    rmdir "$root$staged"
}

# A release that goes back gets the configuration that it ran with: the new one may be what is wrong.
give_config_back() {
    for file in "$root$replaced"/*; do [ ! -f "$file" ] || mv -f "$file" "$root$etc/"; done
    rmdir "$root$replaced"
}

# A release that cannot read the configuration would not start: better to know before the link turns.
check_config() {
    run "$inside$opt/releases/$release/venv/bin/python" -P -c '
import sys
from pathlib import Path
from agent.config import read_config
from agent.errors import AgentError
path, state = Path(sys.argv[1]), Path(sys.argv[2])
try:
    config = read_config(path)
except AgentError as error:
    sys.exit(f"error: {error}")
if config.storage.folder != state:
    sys.exit(f"error: {path}: storage.folder: is {config.storage.folder}, expected {state}: the service may write nowhere else")
strangers = [f"station.{key}" for key, found, name in (
    ("key_file", config.station.key_file, "device.key"), ("ca_file", config.station.ca_file, "ca.pem"),
) if found is not None and found != path.parent.resolve() / name]
if strangers:
    sys.exit(f"error: {path}: {strangers[0]}: expected device.key and ca.pem, beside the file: the service sees no other")
' "$1" "$state" || {
        rm -rf "$root${staged:?}"
        die "the configuration does not fit $release, nothing was changed"
    }
}

case $card in *[!A-Za-z0-9_-]*) code=2 die "--card: is $card, expected a card's short name, as in /proc/asound/cards" ;; esac
need_root
if [ -n "$config" ] && [ ! -f "$config/config.yaml" ]; then
    code=2 die "--config: $config/config.yaml: there is no such file"
fi
check_bundle
choose_python
stage
before=$(current) || before=
stage_config
check_config "$inside$staged/config.yaml"
take_config
turn_to "$release"
put_units
if [ -n "$state_at" ]; then put_state_mount "$state_at"; fi
enable_unit curupira-agent.service multi-user.target
if [ -n "$start" ]; then start_or_go_back "$before" curupira-agent.service give_config_back; fi
rm -rf "$root${replaced:?}"
prune
if [ -n "$system_site" ] && ! run "$inside$opt/current/venv/bin/python" -c 'import numpy' 2>/dev/null; then
    say "missing: apt install python3-numpy"
fi
run /bin/sh -c 'command -v arecord' >/dev/null 2>&1 || say "missing: apt install alsa-utils (arecord, which reads the microphone)"
say "next: systemctl start curupira-agent-doctor && journalctl -u curupira-agent-doctor -n 20 -o cat"
say "installed: $opt/current is $release"
