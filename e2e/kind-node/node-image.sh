#!/usr/bin/env bash
# Make a kind node image without any registry, laid out as `kind build node-image` lays it out:
#   node-image.sh TAG ROOT_TARBALL PROGRAMS PODNET
# ROOT_TARBALL is made by root-fs.sh with the packages in node-packages.txt; PROGRAMS and PODNET are folders that
# go-programs.sh filled. ENGINE is docker (default) or podman. Needs root, since the programs of the node's file
# system are run in it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/versions.env"
tag=$1 tarball=$2 programs=$3 podnet=$4
engine=${ENGINE:-docker}
base=kind-node/base builder=kind-node-builder
scratch=$(mktemp -d "${tarball%/*}/.node-image-XXXXXX")
cleanup() {
  "$engine" rm -f -v "$builder" >/dev/null 2>&1 || true
  rm -rf "$scratch"
}
trap cleanup EXIT
root=$scratch/root
say() { printf '%s\n' "$*" >&2; }

# The names and tags that this kubeadm will ask for, and a way to pick one: $(ref etcd)
mapfile -t required < <("$programs/kubeadm" config images list --kubernetes-version "$KUBERNETES_VERSION")
ref() { printf '%s\n' "${required[@]}" | grep "/$1:"; }

# ---- 1. kind's node files on the distribution's file system, and what this project changes in them
unpack_root() {
  mkdir "$root"
  tar -xzf "$tarball" -C "$root"
  cp -r --no-preserve=mode "$programs/kind-files/root/." "$root/"
  install -m 755 "$programs"/{containerd,containerd-shim-runc-v2,ctr} "$root/usr/local/bin/"
  chmod 755 "$root"/usr/local/bin/* "$root"/kind/bin/*
  rm -rf "$root/opt/cni/bin"
  mkdir -p "$root/opt/cni" "$root/etc/kubernetes/manifests" "$root/kind/manifests"
  ln -s /usr/lib/cni "$root/opt/cni/bin"
}

configure_containerd() {
  # A host without CAP_SYS_RESOURCE: nothing in the node may ask for a lower OOM score than it has.
  sed -i -e 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' \
    -e "s#^  sandbox_image = .*#  sandbox_image = \"$(ref pause)\"#" "$root/etc/containerd/config.toml"
  sed -i '/^OOMScoreAdjust=/d' "$root/etc/systemd/system/containerd.service"
  chroot "$root" ctr oci spec >"$scratch/cri-base.json"
  python3 - "$scratch/cri-base.json" "$root/etc/containerd/cri-base.json" <<'PY'
import json, sys
spec = json.load(open(sys.argv[1]))
hooks = spec.setdefault("hooks", {}).setdefault("createContainer", [])
hooks.append({"path": "/kind/bin/mount-product-files.sh"})
spec["process"].pop("rlimits", None)
json.dump(spec, open(sys.argv[2], "w"))
PY
}

# only the units that a node needs
configure_systemd() {
  rm -f "$root"/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service \
    "$root"/lib/systemd/system/multi-user.target.wants/* "$root"/etc/systemd/system/*.wants/* \
    "$root"/lib/systemd/system/{local-fs,basic}.target.wants/* "$root"/lib/systemd/system/sockets.target.wants/*{udev,initctl}*
  echo ReadKMsg=no >>"$root/etc/systemd/journald.conf"
  ln -sf /lib/systemd/systemd "$root/sbin/init"
  chroot "$root" systemctl enable kubelet.service containerd.service undo-mount-hacks.service
  chroot "$root" systemctl mask systemd-binfmt.service
}

# what kind create reads from the node: version, network, and storage (its own manifest with our two images)
install_kubernetes() {
  install -m 755 "$programs"/{kubeadm,kubelet,kubectl} "$root/usr/bin/"
  install -m 755 "$programs/crictl" "$root/usr/local/bin/"
  echo -n "$KUBERNETES_VERSION" >"$root/kind/version"
  cp "$here/podnet.yaml" "$root/kind/manifests/default-cni.yaml"
  sed -e 's#` + storageProvisionerImage + `#kind-node/local-path-provisioner:v1#' -e 's#` + storageHelperImage + `#busybox:1.35#' \
    "$programs/kind-files/manifests/default-storage.yaml" >"$root/kind/manifests/default-storage.yaml"
  ! grep '`' "$root/kind/manifests/default-storage.yaml"
}

# ---- 2. container images: one layer each on nothing, tar | import
# bundle FOLDER FILE...: copy programs of the node's file system with the libraries they load
bundle() {
  local folder=$1 file library
  shift
  for file in "$@"; do
    mkdir -p "$folder$(dirname "$file")"
    cp -L "$root$file" "$folder$file"
    for library in $(chroot "$root" ldd "$file" | grep -oE '/[^ )]+' || true); do
      mkdir -p "$folder$(dirname "$library")"
      cp -nL "$root$library" "$folder$library"
    done
  done
}

# iptables in nft mode, as on the host and in kind's entrypoint. Its extensions are loaded by name and have needs
# of their own (statistic: libm), which ldd of the program does not show: without them no Service works.
bundle_iptables() {
  local extensions name
  mapfile -t extensions < <(cd "$root" && printf '/%s\n' usr/lib/*-linux-gnu/xtables/*.so)
  bundle "$1" /usr/sbin/xtables-nft-multi /usr/sbin/nft "${extensions[@]}"
  for name in ip{,6}tables{,-save,-restore}; do ln -sf xtables-nft-multi "$1/usr/sbin/$name"; done
}

# A shell and the usual tools. Not busybox-static: a static glibc loads its resolver at run time, finds none in an
# image of one file, and no program there can look a name up.
bundle_busybox() {
  local name
  bundle "$1" /bin/busybox
  for name in $("$root/bin/busybox" --list); do [ "$name" = busybox ] || ln -sf busybox "$1/bin/$name"; done
}

# image NAME FOLDER PROGRAM|"": FOLDER is consumed
image() {
  mkdir -p "$2/tmp" "$2/etc"
  chmod 1777 "$2/tmp"
  printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$2/etc/passwd"
  local start='CMD ["sh"]'
  [ -z "$3" ] || start="ENTRYPOINT [\"$3\"]"
  tar -C "$2" -c . | "$engine" import --change "$start" --change 'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$1" >/dev/null
  rm -rf "$2"
  say "image $1"
}

import_images() {
  local folder=$scratch/images name
  for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy etcd coredns local-path-provisioner pause; do
    install -D -m 755 "$programs/$name" "$folder/$name/usr/local/bin/$name"
  done
  install -D -m 755 "$podnet/podnet" "$folder/podnet/usr/local/bin/podnet"
  bundle_iptables "$folder/kube-proxy"
  bundle_iptables "$folder/podnet"
  for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy etcd coredns pause; do
    image "$(ref $name)" "$folder/$name" "/usr/local/bin/$name"
  done
  image kind-node/podnet:v1 "$folder/podnet" /usr/local/bin/podnet
  image kind-node/local-path-provisioner:v1 "$folder/local-path-provisioner" /usr/local/bin/local-path-provisioner
  bundle_busybox "$folder/busybox"
  image busybox:1.35 "$folder/busybox" ""
}

# ---- 3. the node image: the file system; a container of it loads the images into its containerd; commit
import_base() {
  tar -C "$root" --one-file-system -c . | "$engine" import --change 'ENV container=docker' - "$base:raw"
  # neither import nor commit can set a stop signal, a Dockerfile can; systemd stops on SIGRTMIN+3
  printf 'FROM %s:raw\nSTOPSIGNAL SIGRTMIN+3\nENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]\n' "$base" \
    | DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} "$engine" build -q -t "$base:latest" -
}

commit_node() {
  local loaded=("${required[@]}" kind-node/podnet:v1 kind-node/local-path-provisioner:v1 busybox:1.35)
  "$engine" rm -f -v "$builder" >/dev/null 2>&1 || true # left by a run that was killed
  "$engine" run -d --name "$builder" --entrypoint=sleep --security-opt seccomp=unconfined "$base:latest" infinity
  "$engine" exec -d "$builder" bash -c 'exec containerd >/tmp/containerd.log 2>&1'
  "$engine" exec "$builder" bash -c 'for i in {1..100}; do ctr version >/dev/null 2>&1 && exit 0; sleep 0.2; done; exit 1'
  # not unpacked: a node unpacks what it runs, and the node image holds one copy
  "$engine" save "${loaded[@]}" \
    | "$engine" exec -i "$builder" ctr --namespace=k8s.io images import --all-platforms --no-unpack --digests -
  "$engine" exec "$builder" bash -c 'kill $(pidof containerd); while pidof containerd; do sleep 0.2; done; rm -rf /tmp/* /run/containerd'
  "$engine" commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]' "$builder" "$tag"
  "$engine" rm -f -v "$builder" >/dev/null
  "$engine" rmi "${loaded[@]}" "$base:latest" "$base:raw" >/dev/null 2>&1 || true # names only: the node's layers stay
}

say "node files"
unpack_root
configure_containerd
configure_systemd
install_kubernetes
say "container images"
import_images
say "file system into $engine"
import_base
say "images into the node"
commit_node
