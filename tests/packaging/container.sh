#!/bin/bash
# The container image where no registry of images can be reached and no daemon runs: every step of the Dockerfile, by buildah, as root,
# in a root of its own. Only the base image is a stand-in: Debian's packages and this machine's Python under /usr/local.
# Then, as the image's user in its empty /work: its first steps (demo, gate, explorer), its command, and its healthcheck.
#
#   tests/packaging/container.sh cuda             # needs root, Debian, 30 GB; minutes
#   BUILD="--volume /etc/pip.conf:/etc/pip.conf:ro" tests/packaging/container.sh cuda       # if pip needs what only this machine knows
set -euo pipefail
cd "$(dirname "$0")/../.."
variant=${1:?cpu or cuda}
for package in buildah debootstrap; do
    command -v $package >/dev/null || apt-get install -qq --no-install-recommends $package >/dev/null
done
folder=$(mktemp -d)
container=
trap 'rm -rf "$folder"; [ -z "$container" ] || buildah rm "$container" >/dev/null' EXIT

base=docker.io/library/python:$(sed -n 's/^ARG PYTHON=//p' Dockerfile)
if ! buildah inspect "$base" >/dev/null 2>&1; then
    libraries=ca-certificates,libbz2-1.0,libexpat1,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,libuuid1,tzdata,zlib1g
    debootstrap --variant=minbase --include=$libraries bookworm "$folder/root" >"$folder/log" || { tail "$folder/log"; exit 1; }
    python=$(python3 -c 'import os, sys; print(os.path.realpath(sys.base_prefix))')
    version=$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    tar -C "$python" -c --exclude site-packages --exclude __pycache__ "bin/$version" "lib/$version" | tar -C "$folder/root/usr/local" -x
    cp -a "$python"/lib/libpython3* "$folder/root/usr/local/lib/"
    ln -s "$version" "$folder/root/usr/local/bin/python3"
    ln -s python3 "$folder/root/usr/local/bin/python"
    mkdir -p "$folder/root/usr/local/lib/$version/site-packages"
    chroot "$folder/root" sh -c 'ldconfig && python -m ensurepip >/dev/null 2>&1 && ln -s pip3 /usr/local/bin/pip'
    empty=$(buildah from scratch)
    buildah add -q "$empty" "$folder/root" / >/dev/null
    buildah commit -q --rm "$empty" "$base" >/dev/null
fi

make --no-print-directory dist
# shellcheck disable=SC2086 # several options
buildah bud --isolation chroot --format docker --pull-never --layers --build-arg "VARIANT=$variant" --tag "cfx-audit:$variant" ${BUILD:-} .

container=$(buildah from --pull-never "cfx-audit:$variant")
inside() { buildah run --isolation chroot "$@"; }
inside "$container" sh -c 'test "$(id -u)" = 10001 && test "$PWD" = /work && test -z "$(ls -A)"'
inside --volume "$PWD/tests/packaging/first_steps.py:/first_steps.py:ro" "$container" python /first_steps.py 64 | tail -1 >"$folder/seen.json"
python3 - "$folder/seen.json" <<'CHECK'
import json, sys

seen = json.load(open(sys.argv[1]))
verdicts = {twin: gate["verdict"] for twin, gate in seen["gates"].items()}
print(seen["version"], verdicts, seen["explorer"])
assert verdicts == {"planted": "fail", "clean": "pass"}
assert seen["explorer"]["listed"] == ["planted", "clean"] and seen["explorer"]["foreign"] == 400
CHECK

setting() { buildah inspect --type image "cfx-audit:$variant" | python3 -c "import json, sys; print(*json.load(sys.stdin)['Docker']['config']$1, sep='\n')"; }
mapfile -t command < <(setting "['Cmd']")
mapfile -t check < <(setting "['Healthcheck']['Test'][1:]") # without the word CMD
! inside "$container" "${check[@]}" 2>/dev/null || { echo "the healthcheck passes without a server"; exit 1; }
inside "$container" timeout 60 "${command[@]}" &
for _ in $(seq 40); do
    sleep 1
    inside "$container" "${check[@]}" 2>/dev/null && healthy=yes && break
done
wait || true # for timeout: ending buildah would leave the server behind
[ "${healthy:-}" = yes ] || { echo "the healthcheck never passed"; exit 1; }
echo "$variant: built, first steps and healthcheck passed"
