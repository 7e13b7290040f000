#!/bin/sh
# Boots systemd, as the first process of a namespace, with lambent.service: a function is
# called, the unit is restarted, and ends.
set -eu
say() { echo "unit: $*"; }
ask() { nsenter -t "$(pidof systemd)" -p -m systemctl "$@"; }
fail() {
	say "FAILED: $*"
	ask status lambent --no-pager --full || true
	cat /run/lambent.log || true
	exit 1
}

mkdir -p /usr/local/bin /etc/systemd/system/lambent.service.d /etc/systemd/system/multi-user.target.wants /code /home
ln -s /usr/bin/lambent /usr/local/bin/lambent
cp /job/lambent.service /etc/systemd/system/
ln -s ../lambent.service /etc/systemd/system/multi-user.target.wants/
for target in sysinit basic network shutdown umount multi-user; do
	printf '[Unit]\nDescription=%s\n' $target >/etc/systemd/system/$target.target
done
# There is no journal here.
printf '[Service]\nStandardOutput=append:/run/lambent.log\nStandardError=append:/run/lambent.log\n' >/etc/systemd/system/lambent.service.d/log.conf
echo 'lambent:x:900:900::/var/lib/lambent:/usr/sbin/nologin' >>/etc/passwd
echo 'lambent:x:900:' >>/etc/group

unshare -p -f -m --mount-proc env container=test systemd --system --unit=multi-user.target &

export LAMBENT_DATA=/var/lib/lambent
serves() {
	tries=0
	until curl -sf http://127.0.0.1:9700/readyz >/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || fail "it does not serve"
		sleep 0.2
	done
}
called() {
	answer=$(lambent invoke f --data '"you"') || fail "the call"
	[ "$answer" = '"hello you"' ] || fail "the answer is $answer"
}

serves
say "serves"
printf 'def handler(event, context):\n    return "hello " + event\n' >/code/app.py
lambent deploy /code --name f --runtime python3 --handler app.handler || fail "the deploy"
called
say "answers"
[ "$(stat -c %u $LAMBENT_DATA $LAMBENT_DATA/token | uniq)" = 900 ] || fail "whose the data is"
ask restart lambent || fail "the restart"
serves
called
say "answers again"
ask stop lambent || fail "the stop"
result=$(ask show lambent -p Result -p ExecMainStatus -p ActiveState | sort | tr '\n' ' ')
[ "$result" = "ActiveState=inactive ExecMainStatus=0 Result=success " ] || fail "it ended as $result"
[ -z "$(ls -d /sys/fs/cgroup/system.slice/lambent.service 2>/dev/null)" ] || fail "its control groups are left"
say "ended"
cat /run/lambent.log
