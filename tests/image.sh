#!/usr/bin/env bash
# Builds the Dockerfile and tries the image as an engine would run it: non-root, read-only root file system, data on a
# volume; healthy by its own HEALTHCHECK, delivers an event, keeps it over a restart, stops cleanly.
#
# As root on Debian. No engine and no image registry are needed: buildah builds with chroot isolation, and the two base
# images are made with debootstrap where they can't be pulled. Everything made lies in a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in buildah debootstrap curl python3; do
  command -v "$tool" >/dev/null || { apt-get update -qq; apt-get install -y -qq buildah debootstrap curl python3 >/dev/null; break; }
done

work=$(mktemp -d /var/tmp/kurier-image.XXXXXX)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  [ -n "${mounted:-}" ] && buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs umount "$container" >/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
fail() { echo "image: $*" >&2; exit 1; }
b() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }

# The bases: Debian as it is published, and the same with a compiler and this machine's Rust toolchain.
mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } | awk '$1 == "deb" && !found { print $2; found = 1 } $1 == "URIs:" && !found { print $2; found = 1 }')
debootstrap --variant=minbase --include=ca-certificates bookworm "$work/slim" "${mirror:-http://deb.debian.org/debian}" >"$work/debootstrap.log" \
  || { tail "$work/debootstrap.log"; fail "debootstrap"; }
from_folder() { # folder, tag, then what is added
  local made
  made=$(b from scratch)
  b add -q "$made" "$1" / >/dev/null
  shift
  local tag=$1
  shift
  "$@" "$made"
  b commit -q "$made" "$tag" >/dev/null
  b rm "$made" >/dev/null
}
plain() { :; }
with_rust() {
  b run --isolation chroot "$1" -- sh -c 'apt-get update -qq && apt-get install -y -qq build-essential binutils >/dev/null'
  b add -q "$1" "$(rustc --print sysroot)" /usr/local/rust >/dev/null
  b config --env CARGO_HOME=/usr/local/cargo --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$1"
  # Whom this machine trusts, and its own registry if it has one: the builder stands where the machine stands.
  b add -q "$1" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt >/dev/null
  if [ -f "${CARGO_HOME:-$HOME/.cargo}/config.toml" ]; then
    b add -q "$1" "${CARGO_HOME:-$HOME/.cargo}/config.toml" /usr/local/cargo/config.toml >/dev/null
  fi
}
from_folder "$work/slim" docker.io/library/debian:bookworm-slim plain
from_folder "$work/slim" docker.io/library/rust:1-bookworm with_rust

b bud -q --isolation chroot --pull-never --format docker -t kurier . >"$work/build.log" 2>&1 || { tail -40 "$work/build.log"; fail "the build"; }

config() { b inspect --type image --format "$1" kurier; }
[ "$(config '{{.Docker.Config.User}}')" = kurier ] || fail "the image runs as root"
config '{{.Docker.Config.Healthcheck}}' | grep -q 'kurier health' || fail "no health check"

container=$(b from --pull-never kurier)
root=$(b mount "$container")
mounted=yes
! [ -e "$root/usr/local/cargo" ] && ! [ -e "$root/src" ] || fail "the build's leftovers are in the image"
size=$(du -sm "$root" | cut -f1)

# What an engine does: user of the image, root file system read-only, one volume, the host's network.
mkdir "$work/etc" "$work/data"
uid=$(awk -F: '$1=="kurier"{print $3}' "$root/etc/passwd")
chown "$uid" "$work/data"
printf 'image-secret' > "$work/etc/secret"
free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
public=$(free_port) admin=$(free_port) sink=$(free_port)
cat > "$work/etc/routes.yaml" <<YAML
server: { listen: "127.0.0.1:$public" }
admin: { listen: "127.0.0.1:$admin" }
store: { path: /data/store }
routes:
  code: { path: /callbacks/github, verify: { preset: github, secrets: [{ file: secret }] }, deliver: [app] }
destinations:
  app: { url: "http://127.0.0.1:$sink/", retry: { first: 500ms, min: 500ms, max: 1s } }
YAML
chmod -R a+rX "$work" "$work/etc"
mkdir -p "$root/etc/kurier"
run() { # becomes a command in the container: its own mounts, a root that is read-only, the image's user, no privileges
  exec unshare --mount --propagation private -- sh -c '
    root=$1 etc=$2 data=$3 uid=$4; shift 4
    mount --bind "$root" "$root"
    mount --bind "$etc" "$root/etc/kurier"
    mount --bind "$data" "$root/data"
    mount -o remount,bind,ro "$root"
    mount -t proc proc "$root/proc"
    exec chroot --userspec="$uid:$uid" "$root" env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/data "$@"
  ' - "$root" "$work/etc" "$work/data" "$uid" "$@"
}
serve() {
  (run kurier serve --config /etc/kurier/routes.yaml) 2>>"$work/log" &
  kurier=$!
  pids+=("$kurier")
  for _ in $(seq 100); do
    (run kurier health --config /etc/kurier/routes.yaml) >/dev/null 2>&1 && return
    sleep 0.1
  done
  tail "$work/log"
  fail "never healthy"
}

python3 - "$sink" "$work/received" <<'PYTHON' &
import http.server, sys
class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        with open(sys.argv[2], "ab") as file:
            file.write(body + b"\n")
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
PYTHON
pids+=($!)

(run touch /written) 2>/dev/null && fail "the root file system can be written"
[ "$(run id -u)" = "$uid" ] && [ "$uid" != 0 ] || fail "runs as root"
serve
(run kurier send --route code --config /etc/kurier/routes.yaml) | grep -q ': 200' || fail "the sample was not accepted"
for _ in $(seq 50); do [ -s "$work/received" ] && break; sleep 0.1; done
grep -q '"sample":true' "$work/received" || fail "the event did not arrive"
kill -TERM "$kurier"
wait "$kurier" || fail "did not end cleanly"
serve
(run kurier events list --config /etc/kurier/routes.yaml) | grep -q delivered || fail "the event is gone after a restart"
kill -TERM "$kurier"
wait "$kurier" || fail "did not end cleanly"
echo "image: ok, $size MiB, user $uid, read-only root"
