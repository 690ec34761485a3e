#!/usr/bin/env bash
# Packs a release:  scripts/release.sh [FOLDER]     (dist)
#
# Builds the binary with compiled kernels (scripts/fetch_nvrtc.py; without it: EYEKERN_NVRTC=off), strips it, refuses one
# that needs a library or a glibc that docs/install.md does not name, and leaves eyekern-VERSION-TARGET.tar.gz with its
# SHA-256 beside it. Two runs of one checkout give the same archive. Needs cargo, strip, readelf, GNU tar.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-dist}

# the newest glibc that a release may need: that of Ubuntu 22.04, below Debian 12's
GLIBC=2.35
LIBRARIES='^(libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux-.*)$'

fail() { echo "release.sh: $*" >&2; exit 1; }

python3 scripts/notices.py --check
if [ "${EYEKERN_NVRTC:-}" != off ]; then
    python3 scripts/fetch_nvrtc.py
    export EYEKERN_REQUIRE_NVRTC=1
fi
cargo build --release --locked

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
target=$(rustc -vV | sed -n 's/^host: //p')
name=eyekern-$version-$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/$name"
binary=$work/$name/eyekern
strip -o "$binary" "${CARGO_TARGET_DIR:-target}/release/eyekern"

other=$(readelf -d "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p' | grep -vE "$LIBRARIES" || true)
[ -z "$other" ] || fail "the binary needs $other, which docs/install.md does not name"
needs=$(readelf -V "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
newest=$(printf '%s\n' "$needs" "GLIBC_$GLIBC" | sort -V | tail -n 1)
[ "$newest" = "GLIBC_$GLIBC" ] || fail "the binary needs $needs; build it on a system with glibc $GLIBC"
[ "$("$binary" --version)" = "eyekern $version" ] || fail "the binary is not version $version"

cp README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE THIRD_PARTY_NOTICES "$work/$name"
mkdir -p "$folder"
archive=$name.tar.gz
# order, owners and times that depend on nothing but the content
tar --sort=name --owner=0 --group=0 --numeric-owner --mode=go-w,a+rX --mtime=@0 -C "$work" -c "$name" | gzip -n -9 > "$folder/$archive"
(cd "$folder" && sha256sum "$archive" > "$archive.sha256")
echo "$folder/$archive: $(du -h "$folder/$archive" | cut -f 1), needs $needs"
