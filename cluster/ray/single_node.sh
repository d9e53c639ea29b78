#!/usr/bin/env bash
# One Ray head on this machine with token authentication; dashboard and job server on 127.0.0.1.
#   single_node.sh start | stop
# SLEEPMAMI_HOME holds token, log and process id; PORT, DASHBOARD_PORT and NUM_CPUS may be set.
set -euo pipefail
home="${SLEEPMAMI_HOME:-$HOME/.sleepmami}"
port="${PORT:-6379}" dashboard="${DASHBOARD_PORT:-8265}"
cpus=$(($(nproc) + 2)) # two training workers and their readers need four
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$home/auth_token" RAY_USAGE_STATS_ENABLED=0

running() { # the process id may be another program's by now
  [ -s "$home/head.pid" ] && ps -o args= -p "$(cat "$home/head.pid")" | grep -q 'ray start --head'
}

case "${1:-}" in
start)
  if running; then
    echo "a head of $home runs already; stop it first" >&2
    exit 1
  fi
  mkdir -p "$home" && chmod 700 "$home"
  if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
  fi
  # --block in the background: `ray stop` would end every Ray of this user, a pid ends only ours
  # The agents' ports are named. With their defaults a second Ray on the machine could not run jobs,
  # without a word; and for an agent that chooses its own the raylet waits 15 s and then ends, which is
  # too short for a busy machine (ray-project/ray#65983).
  agents=($(python3 -c 'import socket
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(server.getsockname()[1] for server in taken))'))
  nohup ray start --head --block --port="$port" --dashboard-host=127.0.0.1 --dashboard-port="$dashboard" \
    --dashboard-agent-listen-port="${agents[0]}" --dashboard-agent-grpc-port="${agents[1]}" \
    --runtime-env-agent-port="${agents[2]}" --metrics-export-port="${agents[3]}" --num-cpus="${NUM_CPUS:-$((cpus > 4 ? cpus : 4))}" >"$home/head.log" 2>&1 &
  echo $! >"$home/head.pid"
  # the job server answers before there is a node that could run a job, which has 30 s to come up;
  # a client that asks again and again would take its share of them
  for _ in $(seq 120); do
    if grep -q 'Ray runtime started' "$home/head.log" &&
      ray job list --address "http://127.0.0.1:$dashboard" >/dev/null 2>&1; then
      echo "head ready: http://127.0.0.1:$dashboard  token file: $RAY_AUTH_TOKEN_PATH"
      exit 0
    fi
    running || { tail -5 "$home/head.log" >&2; exit 1; }
    sleep 1
  done
  echo "the head did not answer within two minutes; see $home/head.log" >&2
  exit 1
  ;;
stop)
  if ! running; then
    echo "no head of $home runs" >&2
    exit 1
  fi
  kill "$(cat "$home/head.pid")"
  for _ in $(seq 120); do # Ray lets its jobs end for up to half a minute
    running || { rm -f "$home/head.pid"; exit 0; }
    sleep 0.5
  done
  echo "the head did not end within a minute; see $home/head.log" >&2
  exit 1
  ;;
*)
  echo "usage: $0 start|stop" >&2
  exit 2
  ;;
esac
