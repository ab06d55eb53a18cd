#!/data/data/com.termux/files/usr/bin/sh
# Installs Curupira on a phone with Termux, from this folder; run it again, of any version, to upgrade or downgrade.
# What a phone keeps (outbox, journal, key, configuration) is not touched. If the new version does not answer
# as it should, the old one stays. Exit codes: 0 done, 1 it did not work, 2 wrong use.
set -eu

PREFIX="${PREFIX:-/data/data/com.termux/files/usr}"
HOME="${HOME:-/data/data/com.termux/files/home}"
export PREFIX HOME
SVDIR="$PREFIX/var/service"
export SVDIR
HERE=$(cd "$(dirname "$0")" && pwd)
OPT="$PREFIX/opt/curupira"
CONFIG="$HOME/.config/curupira/config.yaml"
SERVICES="curupira curupira-pulse curupira-watch"
NEEDED="python python-numpy python-tflite-runtime pulseaudio termux-services termux-api"
LEAST_PULSEAUDIO=17.0-4

usage() {
    cat <<'TEXT'
usage: sh install.sh [--no-packages] [--no-start]
  --no-packages   do not call pkg: everything that Termux must bring is there
  --no-start      start nothing that does not run; what runs is restarted
TEXT
}

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    printf '  by hand: %s\n' "$2" >&2
    exit 1
}

packages=yes
start=yes
for argument in "$@"; do
    case "$argument" in
        --no-packages) packages=no ;;
        --no-start) start=no ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
done

check_bundle() {
    [ -f "$HERE/SHA256SUMS" ] || fail "$HERE: has no SHA256SUMS: is this an unpacked bundle?" "unpack the bundle again"
    (cd "$HERE" && sha256sum --check --quiet SHA256SUMS >&2) ||
        fail "$HERE: damaged on its way" "copy the bundle again and unpack it"
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_packages() {
    missing=""
    for package in $NEEDED; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    [ "$packages" = yes ] || fail "Termux lacks:$missing" "pkg install$missing"
    say "installing$missing"
    # shellcheck disable=SC2086  # a list of words
    pkg install -y $missing || fail "pkg could not install:$missing" \
        "connect the phone to the internet, open Termux, run: pkg update && pkg install$missing"
    mkdir -p "$OPT"
    # what uninstall --packages may take away again
    for package in $missing; do printf '%s\n' "$package" >>"$OPT/packages"; done
}

check_system() {
    version=$(dpkg-query -W -f '${Version}' pulseaudio 2>/dev/null || true)
    dpkg --compare-versions "${version:-0}" ge "$LEAST_PULSEAUDIO" ||
        fail "pulseaudio is ${version:-missing}, and before $LEAST_PULSEAUDIO it gives no sound on many phones" "pkg upgrade pulseaudio"
    python -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$(python --version 2>&1) is too old, expected 3.11 or newer" "pkg upgrade python"
}

unpack_release() {
    release="$OPT/releases/$(sha256sum <"$HERE/SHA256SUMS" | cut -c1-16)"
    if [ -d "$release" ]; then
        prove "$release" || refuse
        return 0
    fi
    draft="$release.new"
    rm -rf "$draft"
    mkdir -p "$draft"
    python -m pip install --quiet --disable-pip-version-check --no-warn-script-location --no-compile --no-index --no-deps \
        --target "$draft" "$HERE"/wheels/*.whl || {
        rm -rf "$draft"
        fail "pip cannot install the wheels (is the disk full?)" "df -h $PREFIX; then run this again"
    }
    compile_extras "$draft"
    prove "$draft" || {
        rm -rf "$draft"
        refuse
    }
    mv "$draft" "$release"
}

# WebRTC's voice detector exists as source only; the gate works without it
compile_extras() {
    [ -d "$HERE/sdists" ] && command -v clang >/dev/null || return 0
    tools=$(mktemp -d)
    for source in "$HERE"/sdists/*.tar.gz; do
        compile "$source" "$1" || say "$(basename "$source") does not compile here: the gate does without it"
    done
    rm -rf "$tools"
}

# with the build tools of the bundle: pip would look for them on the internet
compile() {
    python -m pip install --quiet --disable-pip-version-check --no-warn-script-location --no-index --no-deps --upgrade \
        --target "$tools" "$HERE"/sdists/*.whl &&
        PYTHONPATH="$tools" python -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
            --no-build-isolation --target "$2" "$1"
}

# a release that does not give its model's golden answers on this phone is not taken into use
prove() {
    scratch=$(mktemp -d)
    good=0
    (cd "$scratch" && PYTHONPATH="$1" OPENBLAS_NUM_THREADS=1 python -P -m agent doctor --offline) || good=$?
    rm -rf "$scratch"
    return "$good"
}

refuse() {
    fail "this version does not pass its own check on this phone; what was installed before stays" \
        "read the lines above; pkg upgrade, then run this again"
}

# Termux' shebangs hold its prefix
place() {
    mkdir -p "$(dirname "$2")"
    sed "1s|^#!.*/bin/|#!$PREFIX/bin/|" "$1" >"$2.new"
    chmod 700 "$2.new"
    mv -f "$2.new" "$2"
}

install_services() {
    for service in $SERVICES; do
        target="$SVDIR/$service"
        log="$PREFIX/var/log/sv/$service"
        mkdir -p "$log"
        cp "$HERE/service/log-config" "$log/config"
        if [ ! -d "$target" ]; then
            # whole when it appears: runsvdir looks every few seconds
            mkdir -p "$SVDIR/.$service.new"
            touch "$SVDIR/.$service.new/down"
            fill_service "$service" "$SVDIR/.$service.new"
            mv "$SVDIR/.$service.new" "$target"
        else
            fill_service "$service" "$target"
        fi
    done
}

fill_service() {
    for file in run finish log/run; do
        [ ! -f "$HERE/service/$1/$file" ] || place "$HERE/service/$1/$file" "$2/$file"
    done
}

switch() {
    place "$HERE/curupira.sh" "$PREFIX/bin/curupira"
    place "$HERE/back-off.sh" "$OPT/back-off.sh"
    place "$HERE/uninstall.sh" "$OPT/uninstall.sh"
    place "$HERE/boot/10-curupira" "$HOME/.termux/boot/10-curupira"
    ln -sfn "$release" "$OPT/current.new"
    mv -Tf "$OPT/current.new" "$OPT/current"
    install_services
    for other in "$OPT"/releases/*; do
        [ "$other" = "$release" ] || rm -rf "$other"
    done
    mkdir -p "$(dirname "$CONFIG")"
    chmod 700 "$(dirname "$CONFIG")"
}

start_services() {
    if [ ! -f "$CONFIG" ]; then
        say "not started: $CONFIG is missing; provision the device and bring config.yaml, device.key and ca.pem there"
        return 0
    fi
    for service in $SERVICES; do rm -f "$SVDIR/$service/down" "$SVDIR/$service/failures"; done
    if [ "$start" = yes ] && [ -f "$PREFIX/etc/profile.d/start-services.sh" ]; then
        # shellcheck disable=SC1091  # of termux-services
        . "$PREFIX/etc/profile.d/start-services.sh"
    fi
    for service in $SERVICES; do
        touch "$SVDIR/$service/again" # ends a pause of the back-off
        sv restart "$SVDIR/$service" >/dev/null 2>&1 || say "$service: starts in a moment, or when Termux is opened again"
    done
}

check_bundle
install_packages
check_system
unpack_release
switch
start_services
say "curupira $("$PREFIX/bin/curupira" --version) is installed"
