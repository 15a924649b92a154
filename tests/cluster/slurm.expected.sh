#!/bin/bash
# The study 'quickstart' on the Slurm cluster 'lab': 2 nodes, Ray's head on the first.
#   sbatch FILE      submits it; again, it goes on with what the store lacks
# Results go to /shared/studies, which every node must reach.
# Exit codes are those of `scaling-study run`: 130 is a study that was stopped, as 120 s ahead
# of the time limit, and can be gone on with; 3 is also a cluster that did not start.
#SBATCH --job-name=lab-quickstart
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --time=08:00:00
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=128G
#SBATCH --gres=gpu:a100:4
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --qos=long

set -eo pipefail
trap 'exit 3' EXIT # whatever fails ahead of the study: other codes are the study's own
# shellcheck source=/dev/null
source /opt/studies/bin/activate
set -u

export RAY_AUTH_MODE=token
export OMP_NUM_THREADS=1
export RAY_memory_monitor_refresh_ms=0
export RAY_AUTH_TOKEN_PATH="$HOME"/.ray/auth_token
unset RAY_ADDRESS RAY_AUTH_TOKEN

wanted=2
seconds_to_start=300
storage=/shared/studies
folder=/tmp/scaling-study-$SLURM_JOB_ID
port=$((20000 + SLURM_JOB_ID % 1000 * 10)) # up to port + 3: jobs that share a node do not clash
srun=(srun --overlap --export=ALL --cpus-per-task=16 --gres=gpu:a100:4)

started=() running='' marker='' terminated=''

fail() {
  echo "$*" >&2
  exit 3
}

# Ahead of the time limit, and on scancel: the study ends, and can be gone on with.
on_term() {
  terminated=yes interrupted=yes
  if [[ -n $running ]]; then kill -TERM "$running" 2>/dev/null || true; fi
}

stop_if_terminated() {
  if [[ -n $terminated ]]; then exit 130; fi
}

# shellcheck disable=SC2317 # called when the script ends
any_left() {
  local pid
  for pid in "${started[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then return 0; fi
  done
  return 1
}

# Ends what this job has started, and nothing else: other jobs' Ray on the same nodes stays.
# shellcheck disable=SC2317 # called when the script ends
clean_up() {
  local status=$? seconds
  trap '' TERM INT
  if [[ -z $running && $status != 130 ]]; then status=3; fi # the study has not started
  if ((${#started[@]})); then
    kill -TERM "${started[@]}" 2>/dev/null || true
    for ((seconds = 0; seconds < 30; seconds++)); do
      any_left || break
      sleep 1
    done
    if any_left; then kill -KILL "${started[@]}" 2>/dev/null || true; fi
    timeout --kill-after=5 30 "${srun[@]}" --nodes="$wanted" --ntasks="$wanted" \
      --ntasks-per-node=1 rm -rf -- "$folder" || true
  fi
  if [[ -n $marker ]]; then rm -f -- "$marker"; fi
  exit "$status"
}

trap on_term TERM INT
trap clean_up EXIT

# The token: this user's own, in a folder that all nodes share; readable by nobody else.
if [[ ! -e $RAY_AUTH_TOKEN_PATH ]]; then
  (
    umask 077
    mkdir -p -- "$(dirname -- "$RAY_AUTH_TOKEN_PATH")"
    fresh=$(mktemp "$RAY_AUTH_TOKEN_PATH.XXXXXX")
    od -An -N32 -v -tx1 /dev/urandom | tr -d ' \n' >"$fresh"
    mv -n -- "$fresh" "$RAY_AUTH_TOKEN_PATH" # one that another job has made meanwhile is kept
    rm -f -- "$fresh"
  )
fi
if [[ ! -O $RAY_AUTH_TOKEN_PATH || ! -s $RAY_AUTH_TOKEN_PATH ]]; then
  fail "$RAY_AUTH_TOKEN_PATH is empty, or another user's. Remove it, or name another token_file."
fi
chmod 600 -- "$RAY_AUTH_TOKEN_PATH"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
if ((${#nodes[@]} != wanted)); then
  fail "The job has ${#nodes[@]} nodes (${nodes[*]}), not $wanted. Submit it without --nodes."
fi
address=$(hostname --ip-address | tr ' ' '\n' | grep -m1 '^[0-9.]*$' || true)
if [[ -z $address || ($wanted -gt 1 && $address == 127.*) ]]; then
  fail "The first node's name means ${address:-no address} to it, which others cannot reach."
fi

# Every node must see the token, and the very folder that this one writes to.
if [[ -n $storage ]]; then
  marker=$(mktemp "$storage/.job-$SLURM_JOB_ID.XXXXXX") || fail "$storage cannot be written."
fi
# shellcheck disable=SC2016 # expanded on the nodes
"${srun[@]}" --nodes="$wanted" --ntasks="$wanted" --ntasks-per-node=1 bash -c '
  if [[ ! -r $0 ]]; then
    echo "$(hostname): there is no $0. Name a token_file in a folder that all nodes share." >&2
    exit 3
  elif [[ -n $1 && ! -w $2 ]]; then
    echo "$(hostname): $1 is not the folder that the first node writes to." >&2
    exit 3
  fi' "$RAY_AUTH_TOKEN_PATH" "$storage" "$marker" ||
  fail "Not every node sees the token and the storage."

# Ray: the head on the first node, workers on the others, each in a step of its own.
# shellcheck disable=SC2016 # expanded on the nodes
ray_start=(bash -c 'mkdir -p -m 700 -- "$0" && [[ -O $0 ]] && exec ray start "$@"' "$folder"
  --block --temp-dir="$folder" --min-worker-port=0 --max-worker-port=0
  --dashboard-agent-listen-port="$((port + 2))" --disable-usage-stats)

# Returns when so many nodes have joined Ray; a worker gives up soon where there is no head yet.
wait_for() {
  local pid waiting
  RAY_ADDRESS=$address:$port python - "$1" "$seconds_to_start" <<'PYTHON' &
import sys
import time

import ray

wanted, seconds = int(sys.argv[1]), float(sys.argv[2])
deadline = time.monotonic() + seconds
alive, said = 0, ""
while alive < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"{alive} of {wanted} nodes have joined Ray after {seconds:g} s. {said}")
    time.sleep(1)
    try:
        if not ray.is_initialized():
            ray.init(address="auto", logging_level="error", log_to_driver=False)
        alive = sum(node["Alive"] for node in ray.nodes())
    except Exception as error:
        said = str(error)
PYTHON
  waiting=$!
  started+=("$waiting")
  while kill -0 "$waiting" 2>/dev/null; do
    stop_if_terminated
    for pid in "${steps[@]}"; do
      kill -0 "$pid" 2>/dev/null || fail "Ray has ended on a node before it had started on all."
    done
    sleep 1
  done
  wait "$waiting" || fail "Ray has not started on all nodes."
  stop_if_terminated
}

"${srun[@]}" --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" "${ray_start[@]}" \
  --head --node-ip-address="$address" --port="$port" \
  --dashboard-host=127.0.0.1 --dashboard-port="$((port + 1))" \
  --ray-client-server-port="$((port + 3))" \
  --num-cpus=16 --num-gpus=4 --resources='{"accelerator_type:A100": 1}' &
steps=("$!") started+=("$!")
wait_for 1
for node in "${nodes[@]:1}"; do
  "${srun[@]}" --nodes=1 --ntasks=1 --nodelist="$node" "${ray_start[@]}" \
    --address="$address:$port" \
    --num-cpus=16 --num-gpus=4 --resources='{"accelerator_type:A100": 1}' &
  steps+=("$!") started+=("$!")
done
if ((wanted > 1)); then wait_for "$wanted"; fi

export RAY_ADDRESS=$address:$port # the Ray that `auto` means
scaling-study run /home/ada/studies/quickstart.yaml --store /shared/studies/quickstart --address auto &
running=$!
if [[ -n $terminated ]]; then on_term; fi # it came between the two lines above
while true; do
  interrupted=''
  status=0
  wait "$running" || status=$?
  if [[ -z $interrupted ]]; then break; fi # else `wait` may have returned for the signal alone
done
exit "$status"
