#!/usr/bin/env bash
# Installs what the demo, the tests or CI need beside Go, and only what is missing.
#
#   tools/setup.sh demo    interpreters for the functions of `make demo`
#   tools/setup.sh test    those, what the tests compare our agents with, Google's
#                          functions frameworks, a JDK for the one in Java, servers of
#                          WebSockets, AWS's clients, PostgreSQL, MariaDB,
#                          brokers, and virtual machines with other kernels (test/machine)
#   tools/setup.sh ci      those, a C compiler for the race detector, and a browser
#
# System packages come from apt, by sudo where this is not root. Everything else
# goes to .venv in the project, which `rm -rf .venv` forgets.
set -euo pipefail
cd "$(dirname "$0")/.."

# The versions of Node.js whose transcripts are in runtimes/testdata.
node_versions=(20.20.2 24.21.0)

# The functions frameworks that the tests run.
framework_node=5.0.5
framework_python=3.10.2
invoker_java=1.4.1

# A broker of the tests; the others are Debian's.
kafka=4.1.0

# A PostgreSQL that keeps slots for standbys, which Debian's does not yet.
postgresql=17.5.0

# What web servers of the tests speak WebSocket with.
websocket_node=8.23.0
websocket_python=15.0.1

# AWS's SDK for Python and its command line, as clients of ours; the two go together.
boto3=1.44.8
awscli=1.46.3
boto3_query=1.26.165 # speaks SQS's older protocol
aws_node=3.1175.0    # its clients have versions of their own: this is of S3's

# The kernels of test/machine, as Debian has them: the oldest that people run sandboxes
# on, and a newer one.
kernels=(6.1 6.12)

say() { echo "setup: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# apt_packages prints the packages whose programs are missing.
apt_packages() {
  have python3 || echo python3
  have node || have nodejs || echo nodejs
  have curl || echo curl
  [ "$1" = demo ] && return
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  have npm || echo npm
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || have postgres || echo postgresql
  [ -x /usr/sbin/mariadbd ] || have mariadbd || echo mariadb-server-core mariadb-client-core
  have redis-server || echo redis-server
  have mosquitto || [ -x /usr/sbin/mosquitto ] || echo mosquitto
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || echo rabbitmq-server
  have java && have javac || echo default-jdk-headless
  have mvn || echo maven
  have gradle || echo gradle
  # As root, functions run under users of their own: they reach the system's
  # interpreters, and none below somebody's home directory.
  [ -x /usr/bin/python3 ] || [ -x /usr/local/bin/python3 ] || echo python3
  [ -x /usr/bin/node ] || [ -x /usr/local/bin/node ] || echo nodejs
  [ ! -x /usr/bin/python3 ] || /usr/bin/python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
  if [ "$(uname -sm)" = "Linux x86_64" ]; then
    have qemu-system-x86_64 || echo qemu-system-x86
    [ -x /bin/busybox ] || echo busybox-static
    have mke2fs || [ -x /sbin/mke2fs ] || echo e2fsprogs
    have xz || echo xz-utils
    have nft || [ -x /usr/sbin/nft ] || echo nftables
  fi
  if [ "$1" = ci ]; then
    have gcc || echo gcc
    have aarch64-linux-gnu-gcc || echo gcc-aarch64-linux-gnu
    [ -e /usr/aarch64-linux-gnu/include/asm/unistd.h ] || echo linux-libc-dev-arm64-cross
    [ -e /usr/include/stdlib.h ] || echo libc6-dev
    have chromium || have google-chrome || echo chromium
  fi
}

install_packages() {
  local packages
  packages=$(apt_packages "$1" | sort -u | tr '\n' ' ')
  [ -n "$packages" ] || return 0
  if ! have apt-get; then
    say "missing, and this is not Debian: please install $packages"
    return 1
  fi
  [ "$(id -u)" = 0 ] || have sudo || { say "missing; as root: apt-get install $packages"; return 1; }
  say "apt-get install $packages"
  as_root apt-get update -qq
  # Servers are the tests' own to start: Debian is not to do that, now (policy-rc.d) or
  # after the next boot.
  local policy=/usr/sbin/policy-rc.d ours=
  if [ ! -e $policy ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
  fi
  local failed=0
  # shellcheck disable=SC2086 # a list of words
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >/dev/null || failed=$?
  [ -z "$ours" ] || as_root rm -f $policy
  local package
  for package in $packages; do
    case $package in
      postgresql | redis-server | mosquitto | rabbitmq-server)
        ! have systemctl || as_root systemctl disable -q $package 2>/dev/null || true ;;
    esac
  done
  return $failed
}

# install_venv makes the Python whose pip fetches AWS's own client for the tests.
install_venv() {
  [ -x .venv/bin/pip ] && return
  say "a Python environment in .venv"
  python3 -m venv .venv
}

# install_node fetches versions of Node.js, which are packages of npm.
install_node() {
  local arch
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) arch=linux-x64 ;;
    Linux-aarch64) arch=linux-arm64 ;;
    Darwin-arm64) arch=darwin-arm64 ;;
    *) say "npm has no Node.js for $(uname -sm): its tests run on what is installed"; return 0 ;;
  esac
  for version in "${node_versions[@]}"; do
    local dir=.venv/node-$version
    [ -x "$dir/bin/node" ] && continue
    say "Node.js $version in $dir"
    rm -rf "$dir" "$dir.part"
    mkdir -p "$dir.part"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir.part" "node-$arch@$version"
    mv "$dir.part/node_modules/node-$arch" "$dir"
    rm -rf "$dir.part"
  done
}

# install_frameworks fetches Google's functions frameworks, as they lie beside the code
# of their users.
install_frameworks() {
  local dir=.venv/functions-framework-node-$framework_node
  if [ ! -d "$dir" ]; then
    say "Google's functions framework for Node.js in $dir"
    rm -rf "$dir.part"
    mkdir -p "$dir.part"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir.part" "@google-cloud/functions-framework@$framework_node"
    rm "$dir.part"/package*.json
    mv "$dir.part" "$dir"
  fi
  dir=.venv/functions-framework-python-$framework_python
  if [ ! -d "$dir" ]; then
    say "Google's functions framework for Python in $dir"
    rm -rf "$dir.part"
    .venv/bin/pip install --quiet --disable-pip-version-check --target "$dir.part" "functions-framework==$framework_python"
    mv "$dir.part" "$dir"
  fi
}

# install_invoker fetches what runs Google's functions in Java.
install_invoker() {
  local dir=.venv/java-function-invoker-$invoker_java
  [ -d "$dir" ] && return
  say "Google's invoker for Java in $dir"
  rm -rf "$dir.part"
  mvn -q -B -C "-Dmaven.repo.local=$PWD/$dir.part/repository" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    "-Dartifact=com.google.cloud.functions.invoker:java-function-invoker:$invoker_java" "-DoutputDirectory=$PWD/$dir.part/done"
  mv "$dir.part/done" "$dir"
  rm -rf "$dir.part"
}

# install_kafka fetches Kafka's broker, which is jars of Maven's.
install_kafka() {
  local dir=.venv/kafka-$kafka
  [ -d "$dir" ] && return
  say "Kafka in $dir"
  rm -rf "$dir.part"
  mkdir -p "$dir.part"
  cat >"$dir.part/pom.xml" <<POM
<project><modelVersion>4.0.0</modelVersion><groupId>lambent</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies><dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka</version></dependency></dependencies></project>
POM
  (cd "$dir.part" && mvn -q -B -C "-Dmaven.repo.local=$PWD/repository" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime "-DoutputDirectory=$PWD/done")
  mv "$dir.part/done" "$dir"
  rm -rf "$dir.part"
}

# install_postgresql fetches PostgreSQL's programs, of a jar of Maven's.
install_postgresql() {
  local dir=.venv/postgresql-$postgresql arch
  [ -d "$dir" ] && return
  say "PostgreSQL in $dir"
  case "$(uname -m)" in
    aarch64) arch=arm64v8 ;;
    *) arch=amd64 ;;
  esac
  rm -rf "$dir.part"
  mkdir -p "$dir.part/done"
  mvn -q -B -C "-Dmaven.repo.local=$PWD/$dir.part/repository" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    "-Dartifact=io.zonky.test.postgres:embedded-postgres-binaries-linux-$arch:$postgresql" "-DoutputDirectory=$PWD/$dir.part/jar"
  (cd "$dir.part" && python3 -m zipfile -e jar/*.jar . && tar -C done -xJf ./*.txz)
  mv "$dir.part/done" "$dir"
  rm -rf "$dir.part"
}

# install_websockets fetches what web servers speak WebSocket with, in the same way.
install_websockets() {
  local dir=.venv/websocket-node-$websocket_node
  if [ ! -d "$dir" ]; then
    say "ws for Node.js in $dir"
    rm -rf "$dir.part"
    mkdir -p "$dir.part"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir.part" "ws@$websocket_node"
    rm "$dir.part"/package*.json
    mv "$dir.part" "$dir"
  fi
  dir=.venv/websocket-python-$websocket_python
  if [ ! -d "$dir" ]; then
    say "websockets for Python in $dir"
    rm -rf "$dir.part"
    .venv/bin/pip install --quiet --disable-pip-version-check --target "$dir.part" "websockets==$websocket_python"
    mv "$dir.part" "$dir"
  fi
}

# install_aws fetches AWS's clients.
install_aws() {
  local dir=.venv/aws-clients-$boto3
  if [ ! -d "$dir" ]; then
    say "AWS's clients in $dir"
    rm -rf "$dir.part"
    .venv/bin/pip install --quiet --disable-pip-version-check --target "$dir.part" "boto3==$boto3" "awscli==$awscli"
    mv "$dir.part" "$dir"
  fi
  dir=.venv/aws-clients-query-$boto3_query
  if [ ! -d "$dir" ]; then
    say "an older one in $dir"
    rm -rf "$dir.part"
    .venv/bin/pip install --quiet --disable-pip-version-check --target "$dir.part" "boto3==$boto3_query"
    mv "$dir.part" "$dir"
  fi
  dir=.venv/aws-clients-node-$aws_node
  if [ ! -d "$dir" ]; then
    say "AWS's clients for Node.js in $dir"
    rm -rf "$dir.part"
    mkdir -p "$dir.part"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir.part" "@aws-sdk/client-s3@$aws_node" @aws-sdk/client-sqs@3.1175.0 @aws-sdk/client-eventbridge@3.1169.0
    rm "$dir.part"/package*.json
    mv "$dir.part" "$dir"
  fi
}

# install_kernels fetches Debian's kernels, without installing them: the image and
# the modules, unpacked. Which is the latest of a version changes every few weeks.
install_kernels() {
  [ "$(uname -sm)" = "Linux x86_64" ] || return 0
  local version dir package
  for version in "${kernels[@]}"; do
    dir=.venv/linux-$version
    [ -e "$dir/vmlinuz" ] && continue
    have apt-get || { say "no Linux $version for test/machine: this is not Debian"; continue; }
    as_root apt-get update -qq
    package=$(apt-cache search --names-only "^linux-image-${version//./\\.}\\.[0-9].*-cloud-amd64\$" | cut -d' ' -f1 | sort -V | tail -1)
    [ -n "$package" ] || { say "no Linux $version for test/machine: apt has none"; continue; }
    say "$package in $dir"
    rm -rf "$dir" "$dir.part"
    mkdir -p "$dir.part"
    (cd "$dir.part" && apt-get download -qq -o APT::Sandbox::User=root "$package" && dpkg-deb -x ./*.deb .)
    find "$dir.part" -name '*.ko.xz' -exec unxz {} +
    mkdir "$dir.part/done"
    mv "$dir.part"/boot/vmlinuz-* "$dir.part/done/vmlinuz"
    find "$dir.part" -type d -path '*/modules/*/kernel' -exec mv {} "$dir.part/done/modules" ';' -prune
    mv "$dir.part/done" "$dir"
    rm -rf "$dir.part"
  done
}

case "${1:-}" in
  demo)
    install_packages demo ;;
  test | ci)
    install_packages "$1"
    install_venv
    install_node
    install_frameworks
    install_invoker
    install_kafka
    install_postgresql
    install_websockets
    install_aws
    install_kernels ;;
  *)
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2 ;;
esac
