#!/data/data/com.termux/files/usr/bin/sh
# The agent's commands: curupira doctor --config ~/.config/curupira/config.yaml, and so on.
PREFIX="${PREFIX:-/data/data/com.termux/files/usr}"
export OPENBLAS_NUM_THREADS=1 PYTHONUNBUFFERED=1 PYTHONPATH="$PREFIX/opt/curupira/current"
exec python -P -m agent "$@"
