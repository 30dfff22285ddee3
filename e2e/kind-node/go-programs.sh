#!/usr/bin/env bash
# Build one group of programs from Go modules into a folder: go-programs.sh GROUP FOLDER
# Groups: kubernetes (seven commands, local-path-provisioner, pause), podnet, kind, containerd, crictl,
# etcd, coredns.
# Versions are pinned by go/*/go.mod and go.sum. A program appears in FOLDER only when it is complete.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/versions.env"
group=$1 folder=$2
export CGO_ENABLED=0 GOWORK=off GOFLAGS="-mod=readonly -trimpath -buildvcs=false"

mkdir -p "$folder"
fresh=$(mktemp -d "$folder/.building-XXXXXX")
trap 'rm -rf "$fresh"' EXIT

# version MODULE DEPENDENCY: what go.mod pins
version() { awk -v name="$2" '$1 == name {print $2} $2 == name {print $3}' "$here/go/$1/go.mod"; }

# build MODULE LDFLAGS PACKAGE...: in one invocation, so that what the programs share is compiled once
build() {
  local module=$1 flags=$2; shift 2
  (cd "$here/go/$module" && go build -v -ldflags "-s -w $flags" -o "$fresh/" "$@")
}

kubernetes() {
  local flags="" part command packages=()
  for part in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $part.gitVersion=$KUBERNETES_VERSION -X $part.gitMajor=1 -X $part.gitTreeState=clean"
    flags+=" -X $part.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES_VERSION")"
  done
  for command in kubeadm kubelet kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl; do
    packages+=("k8s.io/kubernetes/cmd/$command")
  done
  build kubernetes "$flags" "${packages[@]}" ./pause
  # not in the same invocation: it imports logrus by its old name, which collides with the new one
  build kubernetes "" github.com/rancher/local-path-provisioner
}

# kind create reads the node's files from the image: they are part of kind's module
kind() {
  local source
  build kind "" sigs.k8s.io/kind
  source=$(cd "$here/go/kind" && go list -m -f '{{.Dir}}' sigs.k8s.io/kind)
  mkdir -p "$fresh/kind-files/manifests"
  cp -r --no-preserve=mode "$source/images/base/files" "$fresh/kind-files/root"
  awk '/^const defaultStorageManifest = `/{on=1;next} /^`/{on=0} on' \
    "$source/pkg/build/nodeimage/const_storage.go" >"$fresh/kind-files/manifests/default-storage.yaml"
}

# image volumes and the device interface of resource claims need version 2, which Debian does not have
containerd() {
  local module=github.com/containerd/containerd/v2
  build containerd "-X $module/version.Version=$(version containerd $module)" \
    -tags no_btrfs $module/cmd/{containerd,containerd-shim-runc-v2,ctr}
}

case $group in
  kubernetes) kubernetes ;;
  podnet) build kubernetes "" ./podnet ;;
  kind) kind ;;
  containerd) containerd ;;
  crictl) build crictl "-X sigs.k8s.io/cri-tools/pkg/version.Version=$(version crictl sigs.k8s.io/cri-tools)" sigs.k8s.io/cri-tools/cmd/crictl ;;
  etcd) build etcd "" go.etcd.io/etcd/server/v3; mv "$fresh/server" "$fresh/etcd" ;;
  coredns) build coredns "" . ;;
  *) echo "no such group: $group" >&2; exit 2 ;;
esac
for made in "$fresh"/*; do
  rm -rf "${folder:?}/${made##*/}"
  mv "$made" "$folder/"
done
touch "$folder/.$group"
