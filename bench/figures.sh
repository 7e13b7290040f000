#!/bin/sh
# The figures that the documents quote, each with as many runs as it takes: a 99th percentile
# is of a thousand at least. It takes an hour, on a machine that does nothing else.
# figures.sh PATTERN runs those whose lines match.
set -eu
cd "$(dirname "$0")"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go test -c -o "$bin/bench.test" .
echo "$(git describe --tags --always --dirty 2>/dev/null || echo unknown), $(uname -sr), $(nproc) processors, $(date -u +%F)"
grep -E "${1:-.}" <<'END' | { failed=0; while read -r bench time; do
Warm$ 3000x
Load/(python|nodejs|go)/64$ 20000x
Cold/(python|nodejs|go)/(hit|miss)$ 1000x
ColdDependency 60x
ColdFramework 60x
Servers/.*/(1|64)$ 6000x
Mix 7000x
Sandboxes 1000x
Parked$ 1x
ParkedServer 1x
AfterKill 10x
Neighbour 6000x
Flood/8$ 6000x
Burst 3x
Overload 60x
Accept/1$ 3000x
Accept/64$ 60000x
AcceptToStart 8000x
Failing 1x
Unaffected$ 3x
UnaffectedRows 3x
Rows$ 40000x
RowToStart 1000x
Triggers 1x
PutObject 300x
END
	if out=$("$bin/bench.test" -test.run '^$' -test.bench "$bench" -test.benchtime "$time" -test.timeout 30m 2>&1); then
		echo "$out" | grep '^Benchmark'
	else
		echo "$out"
		failed=1
	fi
done; exit $failed; }
