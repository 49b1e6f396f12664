#!/bin/sh
# What Dockerfile and yaware.def run, one step a call: libraries, package, system.
set -eu
PLACE=/opt/yaware

debian() { # install packages of the distribution, and leave no lists behind
  apt-get update
  apt-get install --yes --no-install-recommends "$@"
  rm -rf /var/lib/apt/lists/*
}

pip() {
  "$PLACE/bin/python" -m pip --no-cache-dir --disable-pip-version-check "$@"
}

case "$1" in
libraries) # the exact versions of requirements-lock.txt; with TORCH_INDEX torch's build for the CPU, without CUDA
  debian ca-certificates python3-venv
  python3 -m venv "$PLACE"
  if [ -n "${TORCH_INDEX:-}" ]; then
    pip install --no-deps --index-url "$TORCH_INDEX" "$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements-lock.txt)"
    awk '/^[a-z]/ { accelerated = /^(torch|triton|nvidia-|cuda-)/ } !accelerated' requirements-lock.txt >locked.txt
  else
    cp requirements-lock.txt locked.txt
  fi
  pip install --no-deps --require-hashes --requirement locked.txt
  ;;
package) # the bundle with its weights; pip is not needed any more
  pip install --no-deps .
  pip uninstall --yes pip
  ;;
system) # of the image that runs: Python, and a user who may do nothing
  debian python3
  useradd --create-home --uid 1000 yaware
  ;;
*)
  echo "install.sh knows libraries, package and system, but not '$1'." >&2
  exit 2
  ;;
esac
