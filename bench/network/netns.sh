#!/usr/bin/env bash
# Emulates hosts on one machine: network namespaces joined by a switch, with a rate limit on each host's uplink and
# downlink, and Open MPI jobs across them over TCP.
#
#   netns.sh run   HOSTS RATE CMD...   set the hosts up, run one rank of CMD on each, take them down again
#   netns.sh up    HOSTS RATE          set them up and leave them up; RATE as tc takes it (1gbit, 200mbit) or 'none'
#   netns.sh exec  HOSTS CMD...        run CMD on hosts that are up
#   netns.sh bytes HOSTS               what each host has sent and received since it was set up
#   netns.sh down                      take all hosts down
#
# Environment:
#   PREFIX=gwnet         names of the namespaces: PREFIX1, PREFIX2, ... and PREFIXsw for the switch
#   SUBNET=10.77.0       first three numbers of the addresses
#   RANKS_PER_HOST=1     more than 1 adds shared memory inside a host
#   MTU=1500 BURST= LATENCY=50ms   of the links; BURST defaults to what the rate needs
#   MPI_ARGS=            further arguments for mpirun, e.g. '--mca coll_tuned_use_dynamic_rules 1'
#
# What to expect of 2 cores: links hold their rate with 2 to 4 hosts up to 1gbit, 8 at 500mbit, 16 at 200mbit. Links
# have no added delay and lose nothing. Needs root, iproute2, util-linux and Open MPI.
set -euo pipefail

PREFIX=${PREFIX:-gwnet}
SUBNET=${SUBNET:-10.77.0}
RANKS_PER_HOST=${RANKS_PER_HOST:-1}
MTU=${MTU:-1500}
BURST=${BURST:-}
LATENCY=${LATENCY:-50ms}
SWITCH=${PREFIX}sw  # the switch has a namespace of its own: the machine's own network is left alone

die() { echo "netns.sh: $*" >&2; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit "$1"; }
host() { echo "${PREFIX}$1"; }

check_machine() {
  [ "$(id -u)" = 0 ] || die "network namespaces need root: run this with sudo, or in a container with CAP_SYS_ADMIN"
  local tool
  for tool in ip tc; do command -v "$tool" >/dev/null || die "$tool is missing: install iproute2"; done
  command -v unshare >/dev/null || die "unshare is missing: install util-linux"
}
check_hosts() { [[ "${1:-}" =~ ^[0-9]+$ ]] && [ "$1" -ge 1 ] && [ "$1" -le 250 ] || die "HOSTS='${1:-}': expected 1 to 250"; }
check_up() { ip netns list | grep -q "^$(host "$1")\b" || die "host $(host "$1") is not up: netns.sh up $1 RATE"; }

down() {
  local name
  for name in $(ip netns list | awk '{print $1}' | grep -E "^${PREFIX}([0-9]+|sw)$" || true); do
    ip netns pids "$name" 2>/dev/null | xargs -r kill 2>/dev/null || true
    ip netns del "$name"
    rm -rf "/etc/netns/$name"
  done
}

# A token bucket must hold what the rate lets through between two timer ticks, and one packet of 64 KiB.
burst_for() {
  if [ -n "$BURST" ]; then echo "$BURST"; return; fi
  case "$1" in
    *gbit) if [ "${1%gbit}" -ge 5 ] 2>/dev/null; then echo 1mb; else echo 256kb; fi ;;
    *) echo 128kb ;;
  esac
}

limit() {  # namespace device rate
  ip netns exec "$1" tc qdisc replace dev "$2" root tbf rate "$3" burst "$(burst_for "$3")" latency "$LATENCY" ||
    die "RATE='$3': tc refuses it; expected for example 1gbit, 200mbit or none"
}

up() {
  local hosts=$1 rate=$2 i j name
  down
  ip netns add "$SWITCH" || die "cannot make network namespaces: CAP_SYS_ADMIN is missing"
  ip -n "$SWITCH" link set lo up
  ip -n "$SWITCH" link add br0 type bridge
  ip -n "$SWITCH" link set br0 up
  for i in $(seq 1 "$hosts"); do
    name=$(host "$i")
    ip netns add "$name"
    ip -n "$name" link set lo up
    ip link add eth0 mtu "$MTU" netns "$name" type veth peer name "port$i" mtu "$MTU" netns "$SWITCH"
    ip -n "$name" addr add "$SUBNET.$i/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$SWITCH" link set "port$i" master br0 up
    if [ "$rate" != none ]; then
      limit "$name" eth0 "$rate"         # uplink
      limit "$SWITCH" "port$i" "$rate"   # downlink
    fi
    mkdir -p "/etc/netns/$name"  # 'ip netns exec' shows this folder's files as /etc's
    { echo "127.0.0.1 localhost"; for j in $(seq 1 "$hosts"); do echo "$SUBNET.$j $(host "$j")"; done; } \
      >"/etc/netns/$name/hosts"
  done
}

# What mpirun uses in place of ssh: AGENT [options] HOST CMD... enters the host's namespace, under the host's name.
AGENT=
write_agent() {
  AGENT=$(mktemp /tmp/netns_agent.XXXXXX)
  cat >"$AGENT" <<'SCRIPT'
#!/bin/bash
while [ "${1#-}" != "$1" ]; do shift; done
name=$1; shift
exec ip netns exec "$name" unshare --uts bash -c 'hostname "$0"; eval "$1"' "$name" "$*"
SCRIPT
  chmod +x "$AGENT"
}

# btl_tcp_flags 0x1 (send, no put): with puts Open MPI 4.1 serialises large exchanges in opposite directions, at half
# the speed. mpi_yield_when_idle: hosts share cores here. Both make Open MPI faster, so comparisons keep them.
exec_job() {
  local hosts=$1 i list="" transports=tcp,self
  shift
  command -v mpirun >/dev/null || die "mpirun is missing: install Open MPI"
  check_up "$hosts"
  for i in $(seq 1 "$hosts"); do list+="${list:+,}$(host "$i"):$RANKS_PER_HOST"; done
  [ "$RANKS_PER_HOST" -gt 1 ] && transports=tcp,self,vader
  write_agent
  # shellcheck disable=SC2086  # MPI_ARGS is a list of words
  ip netns exec "$(host 1)" unshare --uts bash -c 'hostname "$0"; exec "$@"' "$(host 1)" \
    mpirun --allow-run-as-root --oversubscribe --bind-to none -np $((hosts * RANKS_PER_HOST)) --host "$list" \
    --map-by "ppr:$RANKS_PER_HOST:node" --mca plm rsh --mca plm_rsh_agent "$AGENT" --mca plm_rsh_no_tree_spawn 1 \
    --mca oob_tcp_if_include "$SUBNET.0/24" --mca pml ob1 --mca btl "$transports" \
    --mca btl_tcp_if_include "$SUBNET.0/24" --mca btl_tcp_flags 0x1 --mca mpi_yield_when_idle 1 ${MPI_ARGS:-} "$@"
}

show_bytes() {
  local i name
  for i in $(seq 1 "$1"); do
    name=$(host "$i")
    echo "$name sent $(ip netns exec "$name" cat /sys/class/net/eth0/statistics/tx_bytes)" \
      "received $(ip netns exec "$name" cat /sys/class/net/eth0/statistics/rx_bytes)"
  done
}

clean_up() { [ -z "$AGENT" ] || rm -f "$AGENT"; }
trap clean_up EXIT

command=${1:-help}
[ $# -eq 0 ] || shift
case "$command" in
  run)
    [ $# -ge 3 ] || usage 2
    check_machine; check_hosts "$1"
    trap 'down; clean_up' EXIT
    up "$1" "$2"
    hosts=$1; shift 2
    exec_job "$hosts" "$@" ;;
  up) [ $# -eq 2 ] || usage 2; check_machine; check_hosts "$1"; up "$@" ;;
  exec) [ $# -ge 2 ] || usage 2; check_machine; check_hosts "$1"; exec_job "$@" ;;
  bytes) [ $# -eq 1 ] || usage 2; check_machine; check_hosts "$1"; check_up "$1"; show_bytes "$1" ;;
  down) check_machine; down ;;
  help | -h | --help) usage 0 ;;
  *) usage 2 ;;
esac
