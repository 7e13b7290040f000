# What each recipe begins with: a copy of what is given, which is read-only, to work in,
# and, in its home, a copy of what the first stage has fetched.
set -eu
all=${BUILD_ALL-} fetch=${BUILD_FETCH-} work=$TMPDIR/work
mkdir "$work" "$HOME"
[ -z "${BUILD_GIVEN-}" ] || head -c "$BUILD_GIVEN" <&3 | tar -C "$HOME" -xf -
cp -RP . "$work"
chmod -R u+w "$work"
cd "$work"

fail() { echo "$1" >&2; exit 1; }
missing() { echo "$1" >&2; exit 86; }
need() { command -v "$1" >/dev/null 2>&1 || missing "$1"; }
need tar
answer() {
  tar -C "$1" -cf - "$2" >&3
  printf 'that is all' >&3 # what lacks it was cut off
}

