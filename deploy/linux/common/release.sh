# shellcheck shell=sh
# What install.sh and uninstall.sh of agent and station share: a bundle becomes a folder of its own under
# $opt/releases, is proven there, and only then does the link $opt/current name it. Sourced, by a script that has set
# name, here and root, and for stage also python, system_site and proof.
# shellcheck disable=SC2034,SC2154

opt=/opt/$name
etc=/etc/$name
state=/var/lib/$name
units=/etc/systemd/system
# What is installed is read by the service's own user, whatever the umask of who installs; secrets get their modes each.
umask 022
# A state folder of systemd's dynamic users lies under private/, behind a link.
state_real=/var/lib/private/$name

say() { printf '%s\n' "$*"; }
die() {
    [ -z "${half_made:-}" ] || rm -rf "$root${half_made:?}"
    printf 'error: %s\n' "$*" >&2
    exit "${code:-1}"
}

# The bundle's manifest has one key a line.
manifest() { sed -n "s/^ \"$1\": \"\\(.*\\)\",\\{0,1\\}\$/\\1/p" "$here/manifest.json"; }

need_root() {
    [ -z "$root" ] || return 0
    [ "$(id -u)" = 0 ] || code=2 die "needs root: run it with sudo, or name a folder with --root"
    command -v systemctl >/dev/null 2>&1 || code=2 die "no systemd here: this is for systemd alone"
}

# Only a system that runs under systemd is told anything; an image that is being built is not.
live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

check_bundle() {
    [ -f "$here/SHA256SUMS" ] || die "$here: no SHA256SUMS: unpack the bundle again"
    (cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) ||
        die "$here: the bundle is damaged, nothing was changed: copy it again"
}

# In a root of its own the root's programs run, by chroot, where that can be; else this machine's.
enter_root() {
    inside=$root chrooted=
    if [ -n "$root" ] && [ "$(id -u)" = 0 ] && chroot "$root" /usr/bin/python3 -c pass 2>/dev/null; then
        inside='' chrooted=yes
    fi
}

choose_python() {
    enter_root
    run "$python" -c pass 2>/dev/null || code=2 die "$python: cannot be run; install python3, or name one with --python"
    wanted=$(manifest python) machine=$(manifest machine)
    found=$(run "$python" -c 'import platform, struct, sys
machine = platform.machine()
if struct.calcsize("P") == 4 and machine in ("aarch64", "armv8l"):
    machine = "armv7l"  # a 32-bit system on a 64-bit kernel
print("%d.%d %s" % (*sys.version_info[:2], machine))')
    [ "$found" = "$wanted $machine" ] ||
        code=2 die "this bundle is for Python $wanted on $machine, but $python is Python ${found% *} on ${found#* }: take another bundle, or name another --python"
}

run() {
    if [ -n "$chrooted" ]; then chroot "$root" "$@"; else "$@"; fi
}

# The wheel of pip that this Python would put into an environment: it runs from where it is. Putting it in and
# taking it out again took as long as all our wheels.
find_pip() {
    run "$python" -c 'import ensurepip, sys, sysconfig
from pathlib import Path
folders = [sysconfig.get_config_var("WHEEL_PKG_DIR"), Path(ensurepip.__file__).parent / "_bundled"]
wheels = [wheel for folder in folders if folder for wheel in Path(folder).glob("pip-*.whl")]
print(wheels[0]) if wheels else sys.exit(1)' 2>/dev/null
}

# Sets $release (a name) and makes $opt/releases/$release, whole or not at all.
stage() {
    release=$(manifest version)-$(sha256sum "$here/SHA256SUMS" | cut -c 1-8)
    folder=$opt/releases/$release
    if [ -e "$root$folder/.complete" ]; then
        say "$release is here already"
        return 0
    fi
    rm -rf "$root${folder:?}"
    half_made=$folder
    mkdir -p "$root$folder"
    cp -R "$here/wheels" "$here/service" "$here/manifest.json" "$here/SHA256SUMS" "$here/release.sh" \
        "$here/install.sh" "$here/uninstall.sh" "$root$folder/"
    pip=$(find_pip) || die "this Python brings no pip, nothing was changed: apt install python3-venv"
    run "$python" -m venv --without-pip ${system_site:+"$system_site"} "$inside$folder/venv" ||
        die "no virtual environment could be made, nothing was changed"
    for wheel in "$root$folder"/wheels/*.whl; do set -- "$@" "$inside${wheel#"$root"}"; done
    run env "PYTHONPATH=$pip" "$inside$folder/venv/bin/python" \
        -m pip install --quiet --disable-pip-version-check --no-index --no-deps "$@" ||
        die "the wheels could not be installed, nothing was changed"
    rm -rf "$root${folder:?}/wheels"
    run "$inside$folder/venv/bin/python" -P -c "$proof" || die "$release does not work here, nothing was changed"
    : >"$root$folder/.complete"
    half_made=
}

# The link turns in one step: a power cut leaves the old release or the new one.
turn_to() {
    older=$(previous) || older=
    if [ "$1" = "$(current)" ]; then return 0; fi
    old=$(current) || old=
    if [ -n "$old" ]; then link previous "$old"; fi
    link current "$1"
}
link() {
    ln -sfn "releases/$2" "$root$opt/.$1.new"
    mv -fT "$root$opt/.$1.new" "$root$opt/$1"
}
current() { target=$(readlink "$root$opt/current" 2>/dev/null) && basename "$target"; }
previous() { target=$(readlink "$root$opt/previous" 2>/dev/null) && basename "$target"; }

# Keeps the release in use and the one before it.
prune() {
    for folder in "$root$opt"/releases/*; do
        case ${folder##*/} in
        "$(current)" | "$(previous)") ;;
        *) rm -rf "$folder" ;;
        esac
    done
}

# Unit files are the release's own, so that they go back with it.
put_units() {
    mkdir -p "$root$units"
    for unit in "$root$opt"/current/service/*.service "$root$opt"/current/service/*.timer; do
        [ -e "$unit" ] || continue
        cp "$unit" "$root$units/.${unit##*/}.new"
        chmod 644 "$root$units/.${unit##*/}.new"
        mv -f "$root$units/.${unit##*/}.new" "$root$units/${unit##*/}"
    done
    if live; then systemctl daemon-reload; fi
}

enable_unit() {
    mkdir -p "$root$units/$2.wants"
    ln -sfn "$units/$1" "$root$units/$2.wants/$1"
    if live; then systemctl daemon-reload; fi
}

# Starts the new release; what does not come up makes way for the one before. The words after the service's name are run
# before that one is started again.
start_or_go_back() {
    live || return 0
    before=$1 service=$2
    shift 2
    if systemctl restart "$service"; then return 0; fi
    [ -n "$before" ] || die "$service does not start; see: journalctl -u $service -n 30"
    say "$service does not start with $(current): going back to $before"
    link current "$before"
    if [ -n "$older" ]; then link previous "$older"; fi
    put_units
    "$@"
    systemctl restart "$service" || true
    prune
    die "went back to $before; see: journalctl -u $service -n 60"
}

# On a read-only root file system the state lies elsewhere; a mount binds it to where systemd expects it.
put_state_mount() {
    mkdir -p "$root/var/lib/private" "$root$state_real" "$root$1"
    chmod 700 "$root/var/lib/private" "$root$state_real" "$root$1"
    if [ ! -e "$root$state" ] && [ ! -L "$root$state" ]; then ln -s "private/$name" "$root$state"; fi
    mount_unit=$(printf 'var-lib-private-%s' "$(printf %s "$name" | sed 's/-/\\x2d/g')").mount
    cat >"$root$units/$mount_unit" <<MOUNT
[Unit]
Description=State of $name, which lies in $1
RequiresMountsFor=$1

[Mount]
What=$1
Where=$state_real
Type=none
Options=bind

[Install]
WantedBy=local-fs.target
MOUNT
    enable_unit "$mount_unit" local-fs.target
    if live; then systemctl start "$mount_unit"; fi
}

remove_units() {
    for unit in "$@"; do
        if live; then systemctl disable --now "$unit" >/dev/null 2>&1 || true; fi
        rm -rf "$root${units:?}/$unit" "$root$units/$unit.d" "$root$units"/*.wants/"$unit"
    done
    rmdir "$root$units"/*.wants 2>/dev/null || true
    if live; then
        systemctl daemon-reload
        systemctl reset-failed "$@" 2>/dev/null || true
    fi
}

# The state's own folder, or the mount's, or both; lastly what the mount left.
remove_state() {
    mount_unit=$(printf 'var-lib-private-%s' "$(printf %s "$1" | sed 's/-/\\x2d/g')").mount
    where=
    if [ -f "$root$units/$mount_unit" ]; then where=$(sed -n 's/^What=//p' "$root$units/$mount_unit"); fi
    remove_units "$mount_unit"
    if [ -n "$where" ]; then rm -rf "$root${where:?}"; fi
    rm -rf "$root/var/lib/private/${1:?}" "$root/var/lib/${1:?}"
    rmdir "$root/var/lib/private" 2>/dev/null || true
}
