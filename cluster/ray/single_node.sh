#!/usr/bin/env bash
# One Ray head on this machine, token authentication on, everything on loopback.
#   single_node.sh start | stop        PORT and DASHBOARD_PORT may be set
set -euo pipefail
home="${SLEEPMAMI_HOME:-$HOME/.sleepmami}"
port="${PORT:-6379}" dashboard="${DASHBOARD_PORT:-8265}"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$home/auth_token" RAY_USAGE_STATS_ENABLED=0

case "${1:-}" in
start)
  mkdir -p "$home" && chmod 700 "$home"
  if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
  fi
  # --block in the background: `ray stop` would end every Ray of this user, a pid ends only ours
  nohup ray start --head --block --node-ip-address=127.0.0.1 --port="$port" --dashboard-host=127.0.0.1 \
    --dashboard-port="$dashboard" --num-cpus="${NUM_CPUS:-$(($(nproc) + 2))}" >"$home/head.log" 2>&1 &
  echo $! >"$home/head.pid"
  for _ in $(seq 60); do
    if ray job list --address "http://127.0.0.1:$dashboard" >/dev/null 2>&1; then
      echo "head ready: http://127.0.0.1:$dashboard  token file: $RAY_AUTH_TOKEN_PATH"
      exit 0
    fi
    kill -0 "$(cat "$home/head.pid")" 2>/dev/null || { tail -5 "$home/head.log" >&2; exit 1; }
    sleep 1
  done
  echo "the head did not answer within a minute; see $home/head.log" >&2
  exit 1
  ;;
stop)
  kill "$(cat "$home/head.pid")" && rm -f "$home/head.pid"
  ;;
*)
  echo "usage: $0 start|stop" >&2
  exit 2
  ;;
esac
