#!/usr/bin/env bash
# What has to be there before anything else: Python 3.11 or later with venv. Quick when it is: bootstrap.sh [python]
# Installs it where it may (root on Debian or Ubuntu), else says what to install.
set -euo pipefail

fits() {
  python3 - 2>/dev/null <<'PY'
import sys, venv, ensurepip
sys.exit(sys.version_info < (3, 11))
PY
}

fits && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing python3 and python3-venv with apt" >&2
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates; } >"$log" 2>&1 \
    || { tail -15 "$log" >&2; echo "installing python3 failed; log: $log" >&2; exit 1; }
  rm -f "$log"
  fits && exit 0
fi
found=$(python3 --version 2>/dev/null || echo "no python3")
cat >&2 <<TEXT
Python 3.11 or later with venv is needed; found: $found.
  Debian, Ubuntu:  sudo apt-get install python3 python3-venv
  Fedora:          sudo dnf install python3
  macOS:           brew install python@3.12
TEXT
exit 1
