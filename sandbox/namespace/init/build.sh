#!/bin/sh
# Builds the sandbox's first program for each architecture that a compiler is
# there for. The result depends on the compiler: init_test.go says which one.
set -eu
cd "$(dirname "$0")"
out=${1:-.}
flags="-Os -std=c11 -Wall -Wextra -Werror -ffreestanding -nostdlib -static -fno-pic -no-pie -fno-stack-protector -fno-asynchronous-unwind-tables
  -fno-tree-loop-distribute-patterns -fomit-frame-pointer -Wl,--build-id=none,-z,noseparate-code,-z,norelro,-z,noexecstack,-s"
for target in "amd64 gcc" "arm64 aarch64-linux-gnu-gcc"; do
  arch=${target% *} cc=${target#* }
  command -v "$cc" >/dev/null || { echo "no $cc: init-$arch is left as it is" >&2; continue; }
  # Debian's gcc for this machine is also found by its full name elsewhere.
  # shellcheck disable=SC2086 # a list of words
  "$cc" $flags -o "$out/init-$arch" init.c
  strip=${cc%gcc}strip
  "$strip" -R .comment -R '.note*' "$out/init-$arch"
done
