#!/usr/bin/env bash
# Runs the agent's tests on every CPython from 3.11 to 3.14 that this machine has, in environments with the agent's own
# dependencies and pytest alone: what would need more skips or is left out. `make test` has its own Python tested, so
# that one is left out here.
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
    local version=$1 candidate
    for candidate in "$(command -v "python$version" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        if [ -n "$candidate" ] && "$candidate" -c "import sys; sys.exit('.'.join(map(str, sys.version_info[:2])) != '$version')" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

test_with() {
    local python=$1 environment=$2
    if [ ! -e "$environment/.ready" ] || [ constraints/pytest.txt -nt "$environment/.ready" ]; then
        "$python" -m venv "$environment"
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
            -r constraints/pytest.txt
        touch "$environment/.ready"
    fi
    "$environment/bin/python" -m pytest -q tests/agent -m "not slow and not data" -p no:cacheprovider
}

# Side by side, each with a log of its own that is shown when all before it are through.
tested=$(.venv-dev/bin/python -c "import sys; print('.'.join(map(str, sys.version_info[:2])))" 2>/dev/null || true)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
declare -A running
for version in 3.11 3.12 3.13 3.14; do
    if [ "$version" = "$tested" ]; then
        echo "python $version: tested by make test"
        continue
    fi
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "python $version: not on this machine"
        continue
    fi
    # a process of its own: within `if` or `||` bash would go on after an error
    test_with "$python" ".venv-$version" >"$logs/$version" 2>&1 &
    running[$version]=$!
done
failed=0
for version in $(printf '%s\n' "${!running[@]}" | sort -V); do
    wait "${running[$version]}" || failed=1
    echo "python $version:"
    cat "$logs/$version"
done
exit "$failed"
