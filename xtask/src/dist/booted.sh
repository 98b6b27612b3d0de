#!/bin/bash
# Runs as a service of a booted system with the package in it, and says line by line what holds: `ok CLAIM` or `FAILED CLAIM`,
# or `unseen CLAIM` where this host cannot show it. The last line is `end`, and the log of the services goes to the file $JOURNAL.
# Arguments are the parts to be seen, `guide` and `units`. Where everything is slow, $SLOWNESS times as long is waited for anything.
# Port 8080 is the captured service, 9090 the candidate; the system's own Redis runs.
set -u
unit=understudy@8080.service

check() {
    local claim=$1
    shift
    if "$@"; then echo "ok $claim"; else echo "FAILED $claim"; fi
}

check_ceiling() { # as check, where the memory and the CPU time of services are accounted for by cgroup v2
    if grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null; then check "$@"; else echo "unseen $1"; fi
}

get() { # PORT TARGET
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
    cat <&3
    exec 3<&-
}

property() { # NAME [UNIT]
    systemctl show --value --property "$1" "${2-$unit}"
}

within() { # SECONDS COMMAND...
    local end=$((SECONDS + $1 * ${SLOWNESS-1}))
    shift
    while ! "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

active() { [ "$(property ActiveState "${1-$unit}")" = active ]; }
inactive() { [ "$(property ActiveState "${1-$unit}")" = inactive ]; }
said() { # UNIT TEXT: its log has it, or does soon
    within 10 logged "$1" "$2"
}
logged() { # UNIT TEXT
    journalctl --unit "$1" --no-pager | grep -q -- "$2"
}
counted() { # PORT PATTERN: a metric, or it is so soon
    within 10 measured "$1" "$2"
}
measured() { # PORT PATTERN
    get "$1" /metrics | grep -q -- "$2"
}
is_slow() { [ "${SLOWNESS-1}" != 1 ]; }
leave_time() { # FILE: an emulated processor takes more for a capture than it may cost by default
    is_slow || return
    sed -i -e '1i protect.cpu_pressure_max = "100%"' -e 's/^\[capture\]$/&\ncpu_max = "100%"/' "$1"
}
matched() { # PORT NUMBER
    get "$1" /metrics | grep -q "understudy_exchanges_total{.*fate=\"matched\".*} $2\$"
}
compared() { # SECONDS PORT NUMBER: so many match in that time; else what there is goes to the log
    within "$1" matched "$2" "$3" && return
    get "$2" /metrics | grep -v -e '^#' -e ' 0$' >&2
    return 1
}
ask() { # three exchanges of the service
    for i in 1 2 3; do get 8080 "/items/$i" >/dev/null; done
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
status() { # NAME [UNIT]: a line of /proc/PID/status of its process
    sed -n "s/^$1:\t//p" "/proc/$(property MainPID "${2-$unit}")/status"
}
has_only_what_it_may() { # the capabilities that the process may ever have: none but BPF, PERFMON, NET_ADMIN
    [ $((16#$(status CapBnd "${1-$unit}") & ~((1 << 39) | (1 << 38) | (1 << 12)))) -eq 0 ]
}
kernel_before() { [ "$(printf '%s\n' "$1" "$(uname -r)" | sort --version-sort | head -1)" != "$1" ]; }
keeps_no_capability() { # UNIT [KEPT]: no thread has any, in effect or to be had, but for what this kernel makes it keep
    local unit=$1 kept=${2-0} found file
    # Before 5.19, maps that are open already want BPF.
    if kernel_before 5.19; then kept=$((kept | 1 << 39)); fi
    for file in /proc/"$(property MainPID "$unit")"/task/*/status; do
        for found in $(sed -n 's/^Cap\(Inh\|Prm\|Eff\|Amb\):\t//p' "$file"); do
            [ $((16#$found & ~kept)) -eq 0 ] || return 1
        done
    done
}
no_privileges_to_gain() { [ "$(status NoNewPrivs "${1-$unit}")" = 1 ]; }
filters_system_calls() { [ "$(status Seccomp "${1-$unit}")" = 2 ]; }
not_root() { [ "$(status Uid "${1-$unit}" | cut -f1)" != 0 ]; }
cgroup_has() { # FILE TEXT [UNIT]
    [ "$(cat "/sys/fs/cgroup$(property ControlGroup "${3-$unit}")/$1")" = "$2" ]
}
limits() { # MEMORY CPU UNIT: bytes, and CPU time a second
    [ "$(property MemoryMax "$3") $(property MemorySwapMax "$3") $(property CPUQuotaPerSecUSec "$3")" = "$1 0 $2" ]
}
ceilings() { # MEMORY CPU UNIT: bytes, and microseconds of CPU time in 100 ms, as the kernel has them
    cgroup_has memory.max "$1" "$3" && cgroup_has memory.swap.max 0 "$3" && cgroup_has cpu.max "$2 100000" "$3"
}
memory_of_unit() { # SIZE: gives the unit this ceiling, until it is called without one
    mkdir -p "/run/systemd/system/$unit.d"
    rm -f "/run/systemd/system/$unit.d/memory.conf"
    if [ -n "${1-}" ]; then
        printf '[Service]\nMemoryMax=%s\n' "$1" >"/run/systemd/system/$unit.d/memory.conf"
    fi
    systemctl daemon-reload
    systemctl reset-failed "$unit" 2>/dev/null
}

# The first experiment, as the guide has it.
guide() {
    typed() { # TEXT: the commands of the guide that have it
        grep -lF -- "$1" /srv/guide/*.sh | head -1
    }
    check "the guide's two services answer" eval 'bash $(typed "nginx -c") && curl -s http://127.0.0.1:8081/items/7 | grep -q 777'
    setsid bash "$(typed 'seq 2000')" &
    asks=$!
    check "the guide's look shows what it says" eval 'bash $(typed "inspect --port") 2>&1 | grep -q "GET /items/7 -> 200 24 B"'
    bash "$(typed 'understudy run')" >/srv/first.txt 2>&1
    first=$?
    check "the guide's first comparison fails" [ "$first" = 1 ]
    check "it names the cause" grep -q '\[1\] /items/{id}: json:\$.price value' /srv/first.txt
    check "its cause is shown side by side" eval 'understudy report --cause 1 | grep -q "\"price\": 777"'
    bash "$(typed 'cp /srv/ab')"
    bash "$(typed 'understudy run')" >/srv/second.txt 2>&1
    second=$?
    check "the guide's second comparison passes" [ "$second" = 0 ]
    bash "$(typed 'conf.d/8080.toml')" >/srv/third.txt 2>&1
    check "the guide's service runs" active
    systemctl disable --quiet --now "$unit"
    kill -- -"$asks"
    bash "$(typed 'rm -r /srv/ab')"
    check "nothing of it is left" eval '! listens 8080 && ! listens 8081'
    rm -r /etc/understudy/conf.d/8080.toml /var/lib/private/understudy/8080
}

services() {
    systemd-run --quiet --unit=service-a understudy-lab-app --listen 127.0.0.1:8080
    systemd-run --quiet --unit=service-b understudy-lab-app --listen 127.0.0.1:9090
    within 10 listens 8080 && within 10 listens 9090
}

instance() {
    cat >/etc/understudy/conf.d/8080.toml <<'TOML'
[[experiment]]
name = "boot"
TOML
    check "a configuration that is wrong is refused before anything starts" eval '! systemctl start $unit 2>/dev/null'
    systemctl stop "$unit"
    # By its unit: other services of the host that runs this may listen on the same port.
    cat >/etc/understudy/conf.d/8080.toml <<'TOML'
[capture]
cgroup = "service-a.service"
[[experiment]]
name = "boot"
candidate.url = "http://127.0.0.1:9090"
noise.again = "off"
TOML
    leave_time /etc/understudy/conf.d/8080.toml
    check "an instance is enabled and started" systemctl enable --now --quiet "$unit"
    check "start returns when it is ready" active
    ask
    check "exchanges are captured, replayed and compared" compared 10 9469 3
    check "it has a user of its own" not_root
    check "it can have no more capabilities than it may" has_only_what_it_may
    check "it can gain no privileges" no_privileges_to_gain
    check "it keeps no capability once the probe is attached" keeps_no_capability "$unit"
    check "it says so" said "$unit" "capabilities are dropped"
    check "its system calls are filtered" filters_system_calls
    check "its unit holds it to a gibibyte and one core" limits 1073741824 1s "$unit"
    check_ceiling "the kernel knows that" ceilings 1073741824 100000 "$unit"
    check "its state is nobody else's" eval '[ "$(stat -c %a /var/lib/private/understudy/8080)" = 700 ]'
    check "its status says what it does" eval 'within 15 eval "systemctl show --property StatusText $unit | grep -q boot:"'
    main=$(property MainPID)
    check "a reload is taken" systemctl reload "$unit"
    check "it is ready again after a reload" within 10 active
    check "a reload starts no new process" [ "$main" = "$(property MainPID)" ]
    check "a reload is in its log" said "$unit" "read again and holds"
    echo '[capture' >>/etc/understudy/conf.d/8080.toml
    check "a reload of what is wrong is refused, and systemctl says so" eval '! systemctl reload "$unit" 2>/dev/null'
    check "a reload that is refused is in the log" said "$unit" "is refused; nothing changes"
    check "a reload that is refused is counted" counted 9469 'understudy_config_reloads_total{result="failed"} [1-9]'
    check "a reload that is refused changes nothing" eval 'within 10 active && [ "$main" = "$(property MainPID)" ]'
    sed -i '$d' /etc/understudy/conf.d/8080.toml
    sed -i 's/^\[capture\]$/&\nring_bytes = 8388608/' /etc/understudy/conf.d/8080.toml
    check "a reload that takes a restart fails as well, and names the key" eval 'systemctl reload "$unit" 2>/dev/null; [ $? != 0 ] && said "$unit" "capture. cannot change while it runs"'
    check "it is counted as one that takes a restart" counted 9469 'understudy_config_reloads_total{result="restart_needed"} [1-9]'
    check "it changes nothing either" eval 'within 10 active && [ "$main" = "$(property MainPID)" ]'
    sed -i '/^ring_bytes/d' /etc/understudy/conf.d/8080.toml
    check "a reload of what it runs with is taken again" systemctl reload "$unit"

    kill -STOP "$main"
    check "a process that hangs is started again" within 60 eval '[ "$(property MainPID)" != "$main" ] && active'
    check "it was the watchdog" said "$unit" "Watchdog timeout"
    check "it is paused, and the metrics say so" eval 'understudy pause --for 1h >/dev/null && counted 9469 "^understudy_paused 1$"'
    check "it is resumed" eval 'understudy resume >/dev/null && counted 9469 "^understudy_paused 0$"'
    check "it stops when told to" systemctl stop "$unit"
    check "stopping it is no failure" inactive
    check "it leaves a report" eval 'understudy report --journal /var/lib/private/understudy/8080/understudy.db | grep -q boot'
}

# What the process may take at most is added up at the start: where there is less, nothing is attached.
memory() {
    cp /etc/understudy/conf.d/8080.toml /srv/8080.toml
    sed -i '1i protect.memory_max = 314572800' /etc/understudy/conf.d/8080.toml
    check "it does not start in less memory than its bounds add up to" eval '! systemctl start $unit 2>/dev/null'
    check "it says what is too low, and which keys to lower" said "$unit" "under .protect. allows 300 MiB; raise that, or lower"
    systemctl stop "$unit"
    cp /srv/8080.toml /etc/understudy/conf.d/8080.toml
    memory_of_unit 300M
    check_ceiling "it does not start in a unit that may have less than that" eval '! systemctl start $unit 2>/dev/null'
    check_ceiling "it says that it is the unit" said "$unit" "(MemoryMax= of the unit) allows 300 MiB; raise that, or lower"
    systemctl stop "$unit"
    memory_of_unit 400M
    check "it starts in as much" systemctl start "$unit"
    systemctl stop "$unit"
    memory_of_unit
}

# The other hook, under the same filter of system calls and with the same capabilities.
gateway() {
    cat >/etc/understudy/conf.d/gateway.toml <<'TOML'
[capture]
ports = [8080]
hook = "tc"
interfaces = ["lo"]
[[experiment]]
name = "gateway"
candidate.url = "http://127.0.0.1:9090"
noise.again = "off"
TOML
    leave_time /etc/understudy/conf.d/gateway.toml
    gateway=understudy@gateway.service
    check "an instance on an interface starts" systemctl start "$gateway"
    ask
    check "exchanges that pass an interface are captured, replayed and compared" compared 10 9469 3
    # Before 6.6, who is to remove filters from interfaces needs NET_ADMIN.
    check "it keeps no capability once the probe is on the interface" keeps_no_capability "$gateway" "$(kernel_before 6.6 && echo $((1 << 12)) || echo 0)"
    check "it leaves the interface" systemctl stop "$gateway"
}

# The two halves of a fleet, and Redis between them with access rules.
fleet() {
    check "there is a Redis" within 10 listens 6379
    access='~understudy* ~{understudy* +@read +@write +@stream +@scripting +ping +time'
    set -f
    # shellcheck disable=SC2086
    check "Redis takes the access rules of the documentation" eval '[ "$(redis-cli ACL SETUSER understudy on ">of the test" $access)" = OK ]'
    set +f
    install -d -m 700 /etc/credstore
    printf 'user = "understudy"\npassword = "of the test"\n' | install -m 600 /dev/stdin /etc/credstore/understudy.redis
    understudy config key | install -m 600 /dev/stdin /etc/credstore/understudy.redact-key
    cat >/etc/understudy/capture.toml <<'TOML'
[capture]
ports = [8080]
cgroup = "service-a.service"
[admin]
listen = "127.0.0.1:9470"
[queue]
redis = "redis://127.0.0.1:6379/0"
[spool]
path = "/var/lib/understudy/capture/spool"
[[experiment]]
name = "fleet"
candidate.url = "http://127.0.0.1:9090"
TOML
    leave_time /etc/understudy/capture.toml
    sed -e 's/9470/9471/' -e '/spool/d' /etc/understudy/capture.toml >/etc/understudy/replay.toml
    printf 'noise.again = "off"\n' >>/etc/understudy/replay.toml
    tee=understudy-capture.service
    worker=understudy-replay.service
    check "a capture starts, with the password of Redis as a credential" systemctl start "$tee"
    check "a worker starts beside it" systemctl start "$worker"
    ask
    check "what is captured is compared by the worker" compared 20 9471 3
    check "the worker can have no capability" eval '[ "$(status CapBnd $worker)" = 0000000000000000 ]'
    check "the capture keeps none once the probe is attached" keeps_no_capability "$tee"
    check "neither can gain privileges" eval 'no_privileges_to_gain $tee && no_privileges_to_gain $worker'
    check "the system calls of both are filtered" eval 'filters_system_calls $tee && filters_system_calls $worker'
    check "its unit holds the capture to half a gibibyte and half a core" limits 536870912 500ms "$tee"
    check "its unit holds the worker to a gibibyte and two cores" limits 1073741824 2s "$worker"
    check_ceiling "the kernel knows both" eval 'ceilings 536870912 50000 $tee && ceilings 1073741824 200000 $worker'
    # Half an emulated core is too little to end in the two seconds that the capture gives its thread.
    is_slow && systemctl set-property --runtime "$tee" CPUQuota=
    check "root reads the report of the fleet with the same password" eval 'understudy report --config /etc/understudy/replay.toml | grep -q fleet'
    check "a reload of both is taken" systemctl reload "$tee" "$worker"
    check "both logs say so" eval 'said $tee "read again and holds" && said $worker "read again and holds"'
    systemctl stop redis-server
    ask
    check "what Redis cannot take waits in the spool" within 20 eval 'get 9470 /metrics | grep -q "^understudy_spool_entries [1-9]"'
    check "neither ends because Redis is away" eval 'active $tee && active $worker'
    systemctl start redis-server
    within 10 listens 6379
    redis-cli ACL SETUSER understudy on ">of the test" '~understudy*' '~{understudy*' +@read +@write +@stream +@scripting +ping +time >/dev/null
    check "it goes out when Redis is back" within 60 eval 'get 9470 /metrics | grep -q "^understudy_spool_entries 0"'
    check "and is compared" compared 30 9471 6
    check "both stop when told to" eval 'systemctl stop $tee $worker && inactive $tee && inactive $worker'
}

upgrade() {
    if [ -e /srv/upgrade.deb ]; then
        systemctl start "$unit"
        main=$(property MainPID)
        check "an upgrade installs" eval 'DEBIAN_FRONTEND=noninteractive dpkg --install /srv/upgrade.deb >/dev/null'
        check "what ran before an upgrade runs on as the new version" within 10 eval '[ "$(property MainPID)" != "$main" ] && active'
        check "the package is removed" eval 'dpkg --remove understudy >/dev/null'
        check "nothing runs after that" eval '! grep -qx understudy /proc/[0-9]*/comm 2>/dev/null'
    fi
}

units() {
    services
    instance
    memory
    gateway
    fleet
    upgrade
}

cd /root || exit
for part in "$@"; do "$part"; done
journalctl --unit 'understudy*' --no-pager >"$JOURNAL"
echo end
systemctl poweroff --force
