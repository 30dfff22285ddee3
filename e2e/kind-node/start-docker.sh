#!/usr/bin/env bash
# Start containerd and dockerd on a host without an init system: start-docker.sh FOLDER [shim]
# FOLDER takes their logs, process ids and configuration; the host's own /etc/docker is left alone. With "shim" the
# default runtime is oci-shim.py, for a host that lacks capabilities which kind's privileged containers ask for.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1 shim=${2:-}
mkdir -p "$folder"

runtimes=""
if [ -n "$shim" ]; then
  # a copy, run by an interpreter that stays: the daemon goes on using it when this checkout is gone
  python=/usr/bin/python3
  [ -x $python ] || python=$(readlink -f "$(command -v python3)")
  sed "1s|.*|#!$python|" "$here/oci-shim.py" >"$folder/.oci-shim.py"
  chmod 755 "$folder/.oci-shim.py"
  mv "$folder/.oci-shim.py" "$folder/oci-shim.py"
  runtimes="\"default-runtime\": \"shim\", \"runtimes\": {\"shim\": {\"path\": \"$folder/oci-shim.py\"}},"
fi
cat >"$folder/daemon.json" <<JSON
{$runtimes "exec-opts": ["native.cgroupdriver=cgroupfs"], "storage-driver": "overlay2"}
JSON

# each daemon gets a session of its own, a log and a pid file, and none of our open files
daemon() {
  local name=$1; shift
  setsid nohup "$@" >"$folder/$name.log" 2>&1 </dev/null 3>&- 4>&- 5>&- &
  echo $! >"$folder/$name.pid"
}
# await SECONDS COMMAND...: until it succeeds
await() {
  local limit=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $limit ] || return 1; sleep 0.2; done
}
if ! ctr version >/dev/null 2>&1; then
  daemon containerd containerd
  await 20 ctr version || { tail -20 "$folder/containerd.log"; exit 1; }
fi
pidof dockerd >/dev/null || rm -f /var/run/docker.pid
daemon dockerd dockerd --config-file "$folder/daemon.json" --containerd /run/containerd/containerd.sock
await 60 docker version || { tail -20 "$folder/dockerd.log"; exit 1; }
# many watchers in many pods; the usual limit of 128 instances ends with "too many open files"
for limit in fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=1024 net.ipv4.ip_forward=1; do
  [ "$(sysctl -n "${limit%=*}")" -ge "${limit#*=}" ] || sysctl -q -w "$limit" || echo "cannot set $limit" >&2
done
docker info --format 'docker {{.ServerVersion}}, {{.Driver}}, cgroup v{{.CgroupVersion}} {{.CgroupDriver}}, runtime {{.DefaultRuntime}}'
