#!/bin/bash
# Runs as a service of a booted system with the package in it, and says line by line what holds: `ok CLAIM` or `FAILED CLAIM`.
# The last line is `end`. Port 8080 is the captured service, 9090 the candidate.
set -u
unit=understudy@8080.service

check() {
    local claim=$1
    shift
    if "$@"; then echo "ok $claim"; else echo "FAILED $claim"; fi
}

get() { # PORT TARGET
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
    cat <&3
    exec 3<&-
}

property() { systemctl show --value --property "$1" "$unit"; }

within() { # SECONDS COMMAND...
    local tries=$(($1 * 10))
    shift
    while ! "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

active() { [ "$(property ActiveState)" = active ]; }
compared() { get 9469 /metrics | grep -q 'understudy_exchanges_total{.*fate="matched".*} 3$'; }
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
has_only_what_it_may() { # the capabilities that the process may ever have: none but BPF, PERFMON, NET_ADMIN
    local bounding
    bounding=$(sed -n 's/^CapBnd:\t//p' "/proc/$(property MainPID)/status")
    [ $((16#$bounding & ~((1 << 39) | (1 << 38) | (1 << 12)))) -eq 0 ]
}
no_privileges_to_gain() { [ "$(sed -n 's/^NoNewPrivs:\t//p' "/proc/$(property MainPID)/status")" = 1 ]; }
not_root() { [ "$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' "/proc/$(property MainPID)/status")" != 0 ]; }

systemd-run --quiet --unit=service-a understudy-lab-app --listen 127.0.0.1:8080
systemd-run --quiet --unit=service-b understudy-lab-app --listen 127.0.0.1:9090
within 10 listens 8080 && within 10 listens 9090

cat >/etc/understudy/conf.d/8080.toml <<'TOML'
[[experiment]]
name = "boot"
TOML
check "a configuration that is wrong is refused before anything starts" eval '! systemctl start $unit 2>/dev/null'
systemctl stop "$unit"
cat >/etc/understudy/conf.d/8080.toml <<'TOML'
[[experiment]]
name = "boot"
candidate.url = "http://127.0.0.1:9090"
noise.again = "off"
TOML
check "an instance is enabled and started" systemctl enable --now --quiet "$unit"
check "start returns when it is ready" active
for i in 1 2 3; do get 8080 "/items/$i" >/dev/null; done
check "exchanges are captured, replayed and compared" within 10 compared
check "it has a user of its own" not_root
check "it can have no more capabilities than it may" has_only_what_it_may
check "it can gain no privileges" no_privileges_to_gain
check "its state is nobody else's" eval '[ "$(stat -c %a /var/lib/private/understudy/8080)" = 700 ]'
check "its status says what it does" eval 'within 15 eval "systemctl show --property StatusText $unit | grep -q boot:"'
main=$(property MainPID)
check "a reload is taken" systemctl reload "$unit"
check "it is ready again after a reload" within 10 active
check "a reload starts no new process" [ "$main" = "$(property MainPID)" ]
check "a reload is in its log" eval 'journalctl --unit $unit | grep -q "read again and holds"'
echo '[capture' >>/etc/understudy/conf.d/8080.toml
systemctl reload "$unit"
check "a reload that is refused changes nothing" eval 'within 10 active && [ "$main" = "$(property MainPID)" ]'
sed -i '$d' /etc/understudy/conf.d/8080.toml

kill -STOP "$main"
check "a process that hangs is started again" within 60 eval '[ "$(property MainPID)" != "$main" ] && active'
check "it was the watchdog" eval 'journalctl --unit $unit | grep -q "Watchdog timeout"'
check "it stops when told to" systemctl stop "$unit"
check "stopping it is no failure" eval '[ "$(property ActiveState)" = inactive ]'
check "it leaves a report" eval 'understudy report --journal /var/lib/private/understudy/8080/understudy.db | grep -q boot'

if [ -e /srv/upgrade.deb ]; then
    systemctl start "$unit"
    main=$(property MainPID)
    check "an upgrade installs" eval 'DEBIAN_FRONTEND=noninteractive dpkg --install /srv/upgrade.deb >/dev/null'
    check "what ran before an upgrade runs on as the new version" within 10 eval '[ "$(property MainPID)" != "$main" ] && active'
    check "the package is removed" eval 'dpkg --remove understudy >/dev/null'
    check "nothing runs after that" eval '! grep -qx understudy /proc/[0-9]*/comm 2>/dev/null'
fi
journalctl --unit "$unit" --no-pager >/srv/journal.txt
echo end
systemctl poweroff --force
