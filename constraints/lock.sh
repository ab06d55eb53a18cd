#!/usr/bin/env bash
# Pins all dependencies with hashes, for every platform and Python in one file each. No index is named in them.
set -euo pipefail
cd "$(dirname "$0")/.."
pin() {
    local out=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --no-emit-index-url --no-emit-find-links --no-strip-extras --upgrade "$@" pyproject.toml -o "constraints/$out.txt"
}
pin agent
pin pytest --group pytest
pin run --extra deploy --extra audio --extra postgres
pin dev --all-extras --group dev
pin fuzz --group fuzz
