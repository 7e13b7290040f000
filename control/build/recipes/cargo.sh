# The only program of the package, or the one called bootstrap, and beside it what is
# not the source of it.
need cargo
export CARGO_HOME="$HOME/.cargo"
mkdir -p "$CARGO_HOME"
if [ -n "$fetch" ]; then # what Cargo.lock names, or would
  lock= target=
  [ ! -f Cargo.lock ] || lock=--locked
  [ -e .cargo ] || target="--target=$(rustc -vV | sed -n 's/^host: //p')" # others it may be built for, too
  cargo fetch $lock $target
  [ -n "$lock" ] || cp Cargo.lock "$CARGO_HOME"
  rm -rf "$CARGO_HOME/registry/src" "$CARGO_HOME/git/checkouts" # unpacked from what stays
  answer "$HOME" .cargo
  exit
fi
[ -f Cargo.lock ] || [ ! -f "$CARGO_HOME/Cargo.lock" ] || cp "$CARGO_HOME/Cargo.lock" .
lock=
[ ! -f Cargo.lock ] || lock=--locked
cargo build --release $lock --target-dir "$TMPDIR/target"
program= several=
for file in "$TMPDIR"/target/release/* "$TMPDIR"/target/*/release/*; do # with a target of its own, too
  [ -f "$file" ] && [ -x "$file" ] || continue
  case $file in
  *.so | *.d) ;;
  */bootstrap) program=$file several= && break ;;
  *) [ -z "$program" ] || several=yes && program=$file ;;
  esac
done
[ -n "$program" ] || fail "the package has no program: src/main.rs is one"
[ -z "$several" ] || fail "the package has several programs, and none is called bootstrap"
rm -rf src target Cargo.toml Cargo.lock .cargo build.rs
cp "$program" bootstrap
answer "$work" .
