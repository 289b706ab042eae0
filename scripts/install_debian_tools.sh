#!/bin/bash
# Installs what is missing of scripts/debian_tools.txt. Needs root; prints what it would need otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
while read -r tool packages; do
    case $tool in '' | '#'*) continue ;; esac
    command -v "$tool" >/dev/null || read -ra missing <<<"${missing[*]-} $packages"
done <scripts/debian_tools.txt

if [ ${#missing[@]} = 0 ]; then
    exit 0
elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing tools; install them with: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
