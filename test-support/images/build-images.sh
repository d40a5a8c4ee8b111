#!/usr/bin/env bash
# Builds localstack/localstack:4.14.0 and motoserver/moto:5.2.5, under the names of the public images, from Debian packages
# and Python wheels: for machines that cannot pull images. Where a registry is reachable nobody needs this, Docker pulls
# the public ones. They take two and a half minutes and 600 MB.
#
# Runs as root, with debootstrap, and with a Docker engine that answers; .ci/docker sees to all of it. The Debian mirror
# and the package index are those that this machine's apt and pip are configured with. An image that exists is kept;
# FORCE=1 builds it anew. The versions of everything in them stand in the .txt files beside this one; LocalStack 4.14.0 is
# the last one that needs no licence token. test-support/src/containers.rs names the same tags.
set -euo pipefail

SUITE=trixie # LocalStack 4.14 needs Python 3.12 or later; trixie has 3.13
MOTO=motoserver/moto:5.2.5
LOCALSTACK=localstack/localstack:4.14.0
here=$(cd "$(dirname "$0")" && pwd)

say() { printf 'build-images: [%ss] %s\n' "$SECONDS" "$*"; }
die() { say "$*" >&2; exit 1; }
wanted() { [ -n "${FORCE:-}" ] || ! docker image inspect "$1" >/dev/null 2>&1; }

docker info >/dev/null 2>&1 || die "no Docker daemon answers"
if ! wanted "$MOTO" && ! wanted "$LOCALSTACK"; then say "nothing to do, $MOTO and $LOCALSTACK exist"; exit 0; fi
[ "$(id -u)" = 0 ] || die "must run as root (debootstrap and chroot need it)"
command -v debootstrap >/dev/null || die "debootstrap is not installed"
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' \
  'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | awk 'NR == 1')}
[ -n "$mirror" ] || die "apt knows no Debian mirror: run apt-get update, or set DEBIAN_MIRROR"

root=$(mktemp -d -p "${TMPDIR:-/var/tmp}" build-images.XXXXXX)
# debootstrap, when it is interrupted, leaves /proc and /sys mounted.
trap 'umount -q "$root"/{proc,sys} 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"

say "debootstrap $SUITE"
debootstrap --variant=minbase --include=python3-venv "$SUITE" "$root" "$mirror" >"$root.log" 2>&1 ||
  { tail -n 20 "$root.log" >&2; die "debootstrap failed, its log is $root.log"; }
rm -f "$root.log"

# What belongs to this machine (resolver, certificates, index) is needed to build and left out of the images.
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/tmp/ca.crt"
{
  printf '[global]\ncert = /tmp/ca.crt\ntimeout = 180\n'
  { python3 -m pip config list 2>/dev/null || true; } |
    sed -nE "s/^[^.]+\.((extra-)?index-url|trusted-host|proxy)='(.*)'$/\1 = \3/p"
} >"$root/tmp/pip.conf"

in_root() {
  chroot "$root" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin PIP_CONFIG_FILE=/tmp/pip.conf \
    http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" "$@"
}

venv() { # venv DIR FILE: exactly the versions in FILE, none resolved
  say "installing $2"
  cp "$here/$2" "$root/tmp/requirements.txt"
  in_root python3 -m venv "$1"
  in_root "$1/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-deps -r /tmp/requirements.txt
  in_root "$1/bin/pip" uninstall --quiet --yes --root-user-action=ignore pip
}

import() { # import IMAGE CHANGE...
  local image=$1 change=()
  shift
  for c in "$@"; do change+=(--change "$c"); done
  tar -C "$root" -c --exclude='./dev/*' --exclude='./tmp/*' --exclude='./root/*' --exclude='./var/log/*' \
    --exclude='./var/cache/*' --exclude='./var/lib/apt/lists/*' --exclude='./etc/resolv.conf' \
    --exclude='./etc/apt/sources.list' --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
    --exclude='./usr/share/locale/*' . | docker import "${change[@]}" - "$image" >/dev/null
  say "$image built, $(($(docker image inspect -f '{{.Size}}' "$image") / 1000000)) MB"
}

if wanted "$MOTO"; then
  venv /opt/moto moto-5.2.5.txt
  import "$MOTO" 'ENTRYPOINT ["/opt/moto/bin/moto_server", "-H", "0.0.0.0"]' 'EXPOSE 5000' \
    'ENV LANG=C.UTF-8 PYTHONUNBUFFERED=1'
  rm -rf "$root/opt/moto"
fi

if wanted "$LOCALSTACK"; then
  dir=/opt/code/localstack
  mkdir -p "$root$dir" "$root/usr/lib/localstack" "$root/var/lib/localstack"
  touch "$root/usr/lib/localstack/.community-version"
  venv $dir/.venv localstack-4.14.0.txt
  rm -rf "$root$dir"/.venv/lib/python3*/site-packages/awscli/examples
  in_root $dir/.venv/bin/python -m localstack.aws.spec # the service catalog, 7 s on the first request otherwise
  cat >"$root/usr/local/bin/docker-entrypoint.sh" <<'EOF'
#!/bin/bash
# As in the public image: LOCALSTACK_NAME=x also sets NAME=x, and boot hooks run first.
set -e
for name in $(compgen -e); do
  case $name in
    LOCALSTACK_HOST* | LOCALSTACK_[0-9]*) ;;
    LOCALSTACK_*) export "${name#LOCALSTACK_}=${!name}" ;;
  esac
done
if [ -d /etc/localstack/init/boot.d ]; then python3 -m localstack.runtime.init BOOT; fi
exec localstack-supervisor
EOF
  chmod 755 "$root/usr/local/bin/docker-entrypoint.sh"
  # No internet is assumed: no certificate download, no usage events, no DNS server.
  import "$LOCALSTACK" 'ENTRYPOINT ["docker-entrypoint.sh"]' "WORKDIR $dir" 'EXPOSE 4566' \
    "ENV PATH=$dir/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    'ENV LANG=C.UTF-8 USER=localstack PYTHONUNBUFFERED=1 SKIP_SSL_CERT_DOWNLOAD=1 DISABLE_EVENTS=1 DNS_ADDRESS=0'
fi
say "done"
