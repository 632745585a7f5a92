#!/usr/bin/env bash
# Measure everything that needs a GPU, with one command, on a prepared checkout or on a bare machine without a network:
#
#   bash benchmarks/gpu/run.sh [--out FOLDER] [--budget-s 540] [--only CHECK ...] [--dry-run]
#
# Python is $PYTHON, else .venv/bin/python, else python3. Wheels in build/wheels (fetch_wheels.sh) are unpacked into
# build/gpu-packages for the last two. The results go to build/gpu unless --out names another folder.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
cd "$ROOT"
PACKAGES=$ROOT/build/gpu-packages
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ ! -x .venv/bin/python ] || PYTHON=.venv/bin/python
fi
case " $* " in *" --out "* | *" --out="*) ;; *) set -- --out build/gpu "$@" ;; esac

mkdir -p "$PACKAGES"
if [ "$PYTHON" != .venv/bin/python ] && ls build/wheels/*.whl > /dev/null 2>&1; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check --upgrade \
    --target "$PACKAGES" build/wheels/*.whl
fi
# Reports and adapter cards ask for the version of the installed package; a bare machine has only the checkout.
if ! "$PYTHON" -c 'from importlib.metadata import version; version("lensmount")' 2> /dev/null; then
  VERSION=$(sed -n 's/^__version__ *= *"\(.*\)"/\1/p' client/lensmount_client/_version.py)
  mkdir -p "$PACKAGES/lensmount-$VERSION.dist-info"
  printf 'Metadata-Version: 2.1\nName: lensmount\nVersion: %s\n' "$VERSION" > "$PACKAGES/lensmount-$VERSION.dist-info/METADATA"
fi
export PYTHONPATH="$ROOT/service:$ROOT/adapters:$ROOT/client:$PACKAGES${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
exec "$PYTHON" -m benchmarks.gpu "$@"
