#!/usr/bin/env bash
# Try launcher=slurm on a real SLURM: two virtual nodes on this machine, made for the trial and gone after it.
#
#   tests/slurm/try_slurm.sh                          on Debian, as root; 5 to 10 minutes on 2 cores
#   tests/slurm/try_slurm.sh check_faults ...         these checks only
#
# No part of `make test`: it installs the packages slurm-wlm and munge where they are absent. It touches no SLURM and no
# munge that runs here already: key, socket, ports, logs and spool are its own, in a temporary folder, which stays if a
# check fails or with KEEP=1. PYTHON is one with the project's packages, by default that of the repository's .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

PYTHON=${PYTHON:-.venv/bin/python}
PORTS=(16817 16818 16819) # of the controller, node1 and node2
LIMIT=600                 # seconds that no sweep takes

work=$(mktemp -d "${TMPDIR:-/tmp}/try-slurm-XXXXXX")
chmod 755 "$work" # munge wants its socket within everyone's reach
export SLURM_CONF=$work/slurm.conf COLUMNS=100
daemons=() # process numbers, latest first
sweeps=()  # and observers: what else was started in the background
passed=()  # lines of the summary

ok() {
    passed+=("$(printf '%4d s  %s' "$SECONDS" "$*")")
    printf 'ok      %s\n' "$*"
}

fail() {
    printf 'FAILED  %s\n' "$*" >&2
    exit 1
}

until_true() { # SECONDS COMMAND...: wait until the command succeeds
    local end=$((SECONDS + $1))
    until "${@:2}"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

# ------------------------------------------------------------------------------------------------ the cluster

install_slurm() {
    local program
    for program in slurmctld slurmd munged sbatch; do
        command -v "$program" >/dev/null && continue
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge
        return
    done
}

# Each node has one core, so two batch jobs of one core share them out. No cgroups and no accounting; like cgroups,
# proctrack/pgid kills what a batch script leaves behind.
write_configuration() {
    local host
    host=$(hostname -s)
    mkdir "$work"/{batch,logs,spool,state}
    cat >"$SLURM_CONF" <<END
ClusterName=trial
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${PORTS[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool/%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=${PORTS[1]} CPUs=1 RealMemory=4000
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=${PORTS[2]} CPUs=1 RealMemory=4000
PartitionName=all Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
END
}

start_daemon() { # NAME COMMAND...: in the foreground of a background process, so that we know whom to end
    "${@:2}" >"$work/logs/$1" 2>&1 &
    daemons=("$!" "${daemons[@]}")
}

two_nodes_idle() { [[ $(sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | sort -u | wc -l) == 2 ]]; }
nothing_runs() { ! pgrep -f "$work" >/dev/null; }
queue_is_empty() { [[ -z $(squeue --noheader 2>&1) ]]; }

cluster_is_decided() { two_nodes_idle || [[ $(jobs -pr | wc -l) != "${#daemons[@]}" ]]; }

start_cluster() {
    (umask 077 && head -c 128 /dev/urandom >"$work/munge.key")
    start_daemon munged munged --foreground --force --key-file="$work/munge.key" --socket="$work/munge.socket" \
        --pid-file="$work/munge.pid" --log-file="$work/logs/munge" --seed-file="$work/munge.seed"
    until_true 10 test -S "$work/munge.socket" || fail "munged starts"
    start_daemon slurmctld slurmctld -D
    start_daemon node1 slurmd -D -N node1
    start_daemon node2 slurmd -D -N node2
    until_true 60 cluster_is_decided
    two_nodes_idle || fail "two idle nodes within a minute"
    sinfo
    ok "$(sinfo --version): two idle nodes"
}

tear_down() {
    local code=$? pid
    trap - EXIT INT TERM
    set +e
    ((${#sweeps[@]})) && kill "${sweeps[@]}" 2>/dev/null
    if timeout 5 scontrol ping >/dev/null 2>&1; then
        scancel --user=root --quiet
        until_true 60 queue_is_empty
    fi
    for pid in "${daemons[@]}"; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    wait
    if ! until_true 20 nothing_runs; then
        printf 'FAILED  nothing is left running:\n' >&2
        pgrep -af "$work" >&2
        code=1
    fi
    printf '\n%s checks passed%s\n' "${#passed[@]}" "$( ((code)) && echo ", then one failed; see $work")"
    ((${#passed[@]})) && printf '  %s\n' "${passed[@]}"
    ((code)) || [[ -n ${KEEP:-} ]] || rm -rf "$work"
    exit "$code"
}

# ------------------------------------------------------------------------------------------------ sweeps

on_slurm=(
    launcher=slurm launcher.jobs=2 launcher.options.cores=1 launcher.options.memory=2GB
    launcher.options.walltime=00:30:00 ++launcher.options.interface=lo ++launcher.options.log_directory="$work/batch"
)

start_sweep() { # NAME FOLDER OVERRIDES...: in the background, its output in logs/NAME
    local schedule
    mapfile -t schedule < <(PYTHONPATH=src:tests/integration "$PYTHON" -c '
import sys; from pathlib import Path; from conftest import minimal_overrides
print(*minimal_overrides(Path(sys.argv[1])), sep="\n")' "$2")
    env --default-signal=INT timeout --foreground "$LIMIT" \
        "$PYTHON" src/run.py -m "${schedule[@]}" tracking=none trainer.threads=1 launcher.threads=1 "${@:3}" \
        >"$work/logs/$1" 2>&1 &
    sweeps+=("$!")
}

end_sweep() { # NAME CODE TEXT: wait for the sweep started last; it must end with this code and have said this
    local code=0
    wait "${sweeps[-1]}" || code=$?
    unset 'sweeps[-1]'
    if ((code != $2)) || ! grep --quiet --fixed-strings -- "$3" "$work/logs/$1"; then
        tail --lines=30 "$work/logs/$1" >&2
        fail "$1 ends with exit code $2 (it was $code) and says: $3"
    fi
    grep --fixed-strings -- "$3" "$work/logs/$1"
}

variable_of() { # PID NAME: an environment variable of a process
    tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | sed -n "s/^$2=//p"
}

holder_of() { # FOLDER STAGE JOB: process number of the job while it computes this stage; nothing otherwise
    local lease pid
    for lease in "$1/store/leases/$2-"*.json; do
        pid=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$lease" 2>/dev/null) || continue
        tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep --quiet --fixed-strings "/$3'" && echo "$pid" && return
    done
    return 1
}

computes() { holder_of "$@" >/dev/null; }

observe() { # FOLDER: print for ever which batch job, on which node, computes a stage in this store
    local lease pid
    while sleep 0.2; do
        for lease in "$1"/store/leases/*.json; do
            pid=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$lease" 2>/dev/null) || continue
            printf 'batch job %s on %s: %s\n' "$(variable_of "$pid" SLURM_JOB_ID)" \
                "$(variable_of "$pid" SLURMD_NODENAME)" "$(basename "$lease" .json)" 2>/dev/null || true
        done
    done
}

same_results() { # FOLDER FOLDER: every result.json of the first is there in the second, to the byte
    local result
    for result in "$1"/runs/*-????????/*/result.json; do
        cmp "$result" "$2"/runs/*-????????/"$(basename "$(dirname "$result")")"/result.json || return 1
    done
}

# ------------------------------------------------------------------------------------------------ checks

check_six_jobs() {
    local axes=("rsc=true,false" "ratio=0.3,0.5,0.7") start=$SECONDS
    start_sweep six-slurm "$work/slurm" "${axes[@]}" "${on_slurm[@]}"
    observe "$work/slurm" >"$work/logs/observed" 2>/dev/null &
    local observer=$!
    until_true 60 grep --quiet --no-messages "batch job" "$work/logs/observed" || fail "a job begins"
    squeue --format='%i %j %T %N' && scontrol show nodes | grep -E 'NodeName|CPUAlloc|State'
    end_sweep six-slurm 0 "6 jobs: 6 done, 0 reused, 0 failed"
    kill "$observer"
    ok "six jobs on SLURM are done ($((SECONDS - start)) s)"

    printf 'stages seen:\n'
    sort --unique "$work/logs/observed" | grep -oE '.* on node[12]:' | uniq --count
    [[ $(grep -oE 'on node[12]' "$work/logs/observed" | sort --unique | wc -l) == 2 ]] || fail "both nodes compute"
    ok "both nodes computed stages"

    start_sweep six-local "$work/local" "${axes[@]}" launcher=local
    end_sweep six-local 0 "6 jobs: 6 done, 0 reused, 0 failed"
    same_results "$work/slurm" "$work/local" || fail "SLURM's results are those of launcher=local"
    ok "their six result.json are those of launcher=local to the byte"
}

check_faults() {
    local folder=$work/faults good=schedule.finetune.lr=0.001 raising=schedule.finetune.lr=1e+30
    local killed=schedule.finetune.lr=0.0002 cancelled=schedule.finetune.lr=0.0003
    local sweep=("schedule.finetune.lr=1.0e-3,1.0e+30,2.0e-4,3.0e-4" schedule.finetune.steps=400)
    start_sweep faults "$folder" "${sweep[@]}" "${on_slurm[@]}"
    until_true 120 computes "$folder" finetune "$killed" || fail "a job to be killed runs"
    kill -KILL "$(holder_of "$folder" finetune "$killed")"
    until_true 120 computes "$folder" finetune "$cancelled" || fail "a job to be cancelled runs"
    scancel "$(variable_of "$(holder_of "$folder" finetune "$cancelled")" SLURM_JOB_ID)"
    end_sweep faults 1 "4 jobs: 2 done, 0 reused, 2 failed"
    grep --quiet "loss is not finite" "$folder"/runs/*-????????/"$raising"/failure.json || fail "the raising job's card"
    grep --quiet "killed (SIGKILL)" "$folder"/runs/*-????????/"$killed"/failure.json || fail "the killed job's card"
    for job in "$good" "$cancelled"; do
        [[ -f $(echo "$folder"/runs/*-????????/"$job"/result.json) ]] || fail "$job has a result"
    done
    ok "one job raises, one is killed: failure cards, exit code 1; one is cancelled, and done elsewhere"

    start_sweep faults-again "$folder" "${sweep[@]}" "${on_slurm[@]}"
    end_sweep faults-again 1 "4 jobs: 1 done, 2 reused, 1 failed"
    ok "the same command again: the killed job is done, the raising one fails again"

    start_sweep faults-local "$work/undisturbed" "${sweep[@]}" launcher=local
    end_sweep faults-local 1 "4 jobs: 3 done, 0 reused, 1 failed"
    same_results "$work/undisturbed" "$folder" || fail "killed and cancelled jobs end with the same bits"
    ok "killed and cancelled jobs have the result.json of an undisturbed run to the byte"
}

# What SLURM does at a job's time limit: SIGTERM to all its processes, and SIGKILL to those left when the script ends.
check_time_limit() {
    local folder=$work/limit job=schedule.finetune.lr=0.001
    start_sweep limit "$folder" schedule.finetune.lr=1.0e-3,2.0e-4 schedule.finetune.steps=400 \
        schedule.checkpoint_every=1000 "${on_slurm[@]}"
    until_true 120 computes "$folder" finetune "$job" || fail "a job runs"
    sleep 1
    scancel --user=root
    end_sweep limit 0 "2 jobs: 2 done, 0 reused, 0 failed"
    grep "asked to stop (SIGTERM)" "$folder"/runs/*-????????/"$job"/output.log || fail "a checkpoint is written at the limit"
    ok "all batch jobs end early: a checkpoint is written, and the sweep goes on in new batch jobs"
}

check_refusal() {
    start_sweep refused "$work/refused" seed=0,1 "${on_slurm[@]}" ++launcher.options.queue=nowhere
    end_sweep refused 2 "Invalid partition name specified"
    ok "a partition that is not there: one message, exit code 2"
}

check_interrupt() {
    start_sweep interrupted "$work/interrupted" seed=0,1 schedule.pretrain.steps=100000 "${on_slurm[@]}"
    until_true 120 computes "$work/interrupted" pretrain seed=0 || fail "a job runs"
    kill -INT "${sweeps[-1]}"
    end_sweep interrupted 130 "the same command goes on where the jobs are"
    until_true 60 queue_is_empty || fail "no batch job is left after Ctrl-C"
    ok "Ctrl-C: exit code 130, no batch job is left"
}

trap tear_down EXIT
trap 'exit 130' INT TERM
((EUID == 0)) || fail "only root may start SLURM's daemons"
"$PYTHON" -c 'import dask_jobqueue' || fail "$PYTHON has the packages of pip install -e '.[launchers,dev]'"
install_slurm
write_configuration
start_cluster
(($#)) || set -- check_six_jobs check_faults check_time_limit check_refusal check_interrupt
for check in "$@"; do
    "$check"
done
