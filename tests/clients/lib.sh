# Sourced by the client tests: a broker on a free port, counted steps, a closing line.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
side=$root/tests/bench/side
export CHRONIK_BIN=${CHRONIK_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/chronik}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/chronik
work=$(mktemp -d)
passed=0 failed=0 skipped=0

# A base port such that it and the HTTP port 50 above are free.
free_port() {
  local port
  for port in $(seq $((20000 + RANDOM % 10000)) 7 60000); do
    if ! { (: <>"/dev/tcp/127.0.0.1/$port") || (: <>"/dev/tcp/127.0.0.1/$((port + 50))"); } 2>/dev/null; then
      echo "$port"
      return
    fi
  done
}

start_broker() {
  base_port=$(free_port)
  "$side" up --dir "$work/broker" --base-port "$base_port" >"$work/up" || { cat "$work/up"; exit 1; }
  bootstrap=$(sed -n 's/^bootstrap //p' "$work/up")
}

finish() {
  [[ -e $work/broker ]] && "$side" down --dir "$work/broker" --wipe
  rm -rf "$work"
}
trap finish EXIT

# step NAME COMMAND...: passes when the command exits with 0.
step() {
  local name=$1
  shift
  if "$@" >"$work/step.log" 2>&1; then
    passed=$((passed + 1))
    echo "pass $name"
  else
    failed=$((failed + 1))
    echo "FAIL $name"
    tail -30 "$work/step.log"
  fi
}

skip() { # NAME REASON
  skipped=$((skipped + 1))
  echo "skip $1: $2"
}

closing_line() {
  echo "$passed passed, $failed failed, $skipped skipped"
  ((failed == 0))
}
