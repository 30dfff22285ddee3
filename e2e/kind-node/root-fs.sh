#!/usr/bin/env bash
# Bootstrap a root file system of this host's own distribution: root-fs.sh TARBALL PACKAGE,PACKAGE,...
# Needs root and debootstrap. TARBALL (gzip) appears only when it is complete.
set -euo pipefail
tarball=$1 packages=$2
. /etc/os-release
scratch=$(mktemp -d "${tarball%/*}/.root-fs-XXXXXX")
trap 'umount "$scratch/root/proc" "$scratch/root/sys" 2>/dev/null || true; rm -rf "$scratch"' EXIT
root=$scratch/root

components=main; [ "$ID" != ubuntu ] || components=main,universe
# the place that this host's apt gets its packages from, so that nothing has to be named here
mirror=$(apt-get indextargets --format '$(RELEASE)|$(REPO_URI)' 'Created-By: Packages' \
  | awk -F'|' -v release="$VERSION_CODENAME" '$1 == release {print $2; exit}')
[ -n "$mirror" ] || { echo "apt knows no source for $VERSION_CODENAME: run apt-get update" >&2; exit 1; }

debootstrap --variant=minbase --components="$components" --include="$packages" "$VERSION_CODENAME" "$root" "$mirror"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/* \
  "$root"/usr/share/{doc,man,locale,info}/* "$root"/debootstrap
tar -C "$root" --one-file-system -c . | gzip -1 >"$scratch/root.tar.gz"
mv "$scratch/root.tar.gz" "$tarball"
