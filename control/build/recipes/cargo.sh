# The only program of the package, or the one called bootstrap, and beside it what is
# not the source of it.
need cargo
lock=
[ ! -f Cargo.lock ] || lock=--locked
cargo build --release $lock --target-dir "$TMPDIR/target"
cd "$TMPDIR/target/release"
program=
for file in *; do
  [ -f "$file" ] && [ -x "$file" ] || continue
  case $file in *.so | *.d) continue ;; esac
  [ -z "$program" ] || [ "$file" = bootstrap ] || [ "$program" = bootstrap ] || several=yes
  [ "$program" = bootstrap ] || program=$file
done
[ -n "$program" ] || fail "the package has no program: src/main.rs is one"
[ "$program" = bootstrap ] || [ -z "${several-}" ] || fail "the package has several programs, and none is called bootstrap"
cd "$work"
rm -rf src target Cargo.toml Cargo.lock .cargo build.rs
cp "$TMPDIR/target/release/$program" bootstrap
answer "$work" .
