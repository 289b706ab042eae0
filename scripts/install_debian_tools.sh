#!/bin/bash
# install_debian_tools.sh                    installs what is missing of debian_tools.txt; without root, says what it is
# install_debian_tools.sh --missing [TOOL]   prints the packages that are missing, for all tools or for one
set -euo pipefail
cd "$(dirname "$0")/.."

# Whether a program is there, or, for PROGRAM:FILE, the file is where the compiler looks for its libraries: whoever
# has the compiler need not have them.
found() {
    local program=${1%%:*} file=${1#*:}
    command -v "$program" >/dev/null || return 1
    if [ "$file" != "$1" ]; then
        [[ $("$program" -print-file-name="$file") == /* ]] || return 1
    fi
}

# missing_packages [TOOL]: of the tool and its libraries. A compiler that is missing itself has none either.
missing_packages() {
    local tool packages
    while read -r tool packages; do
        case $tool in '' | '#'*) continue ;; esac
        if [ -z "${1-}" ] || [ "${tool%%:*}" = "$1" ]; then
            found "$tool" || printf '%s\n' $packages
        fi
    done <scripts/debian_tools.txt | sort -u
}

if [ "${1-}" = --missing ]; then
    missing_packages "${2-}"
    exit
fi
mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} = 0 ]; then
    exit 0
elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing tools; install them with: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} != 0 ]; then
    echo "still missing after installing: ${missing[*]}" >&2
    exit 1
fi
