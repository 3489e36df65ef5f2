#!/bin/sh
# A SLURM of one node, with neither accounting nor GPUs, for tests/test_cluster.py. It needs Debian's
# packages slurm-wlm and munge, and root: jobs look for /etc/slurm/slurm.conf, which becomes a link.
#   slurm.sh start FOLDER    the daemons, with all their files in FOLDER (its path must be short)
#   slurm.sh crash FOLDER    kill the node daemon and its jobs, as a loss of power does; wait until
#                            SLURM has seen it
#   slurm.sh node FOLDER     start the node daemon again
#   slurm.sh stop FOLDER     end all
set -eu
PATH=$PATH:/usr/sbin:/sbin
folder=$2
conf=$folder/slurm.conf

end() { # a signal for the processes whose ids are in these files
    signal=$1
    shift
    for file in "$@"; do
        [ ! -s "$file" ] || kill "-$signal" "$(cat "$file")" 2> /dev/null || true
    done
}

tree() { # a process id and those of all that it has started
    echo "$1"
    for child in $(pgrep --parent "$1"); do tree "$child"; done
}

case $1 in
start)
    [ ! -e /etc/slurm/slurm.conf ] || { echo "this machine has a SLURM: /etc/slurm/slurm.conf"; exit 1; }
    node=$(hostname -s)
    mkdir -p "$folder/state" "$folder/spool"
    head -c 1024 /dev/urandom > "$folder/munge.key"
    chmod 400 "$folder/munge.key"
    # The node claims more memory than a small machine has: the profile asks for a cluster's.
    cat > "$conf" << CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SlurmdTimeout=20
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 RealMemory=64000
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE
CONF
    ln -sf "$conf" /etc/slurm/slurm.conf
    # --force: munged wants a socket that all users may reach
    munged --force --key-file "$folder/munge.key" --socket "$folder/munge.socket" \
        --pid-file "$folder/munged.pid" --log-file "$folder/munged.log" --seed-file "$folder/munge.seed"
    slurmctld
    slurmd
    ;;
crash)
    jobs=$(for step in $(pgrep --full '^slurmstepd: '); do tree "$step"; done)
    end KILL "$folder/slurmd.pid"
    for job in $jobs; do kill -KILL "$job" 2> /dev/null || true; done
    rm -f "$folder/slurmd.pid"
    until sinfo --noheader --format %t | grep -q down; do sleep 1; done
    ;;
node)
    slurmd
    ;;
stop)
    scancel --user root || true
    sleep 3
    end TERM "$folder/slurmd.pid" "$folder/slurmctld.pid" "$folder/munged.pid"
    rm -f /etc/slurm/slurm.conf
    ;;
esac
