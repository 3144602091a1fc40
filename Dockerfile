# The probe's image: no shell, no package manager, user 1000:1000, and a root that may be mounted read-only.
#
#   make image                                    docker or podman, whichever is there
#   docker build -t triton-probe .                the same by hand (podman: with --format docker)
#
# BASE is any Debian or Ubuntu with Python 3.11 to 3.13, and pip or venv.  3.13 by default: the newest that this
# project is tested with, and the one that gets security fixes for longest, until October 2029.
#
# For the other architecture: docker buildx build --platform linux/arm64.  Wheels of both are pinned.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /build
# Where wheels come from, if not from pip's own index; the hashes hold there too.
ARG PIP_INDEX_URL
# Debian's own python3 comes with pip, with venv (which brings a pip), or with both.
RUN python3 -m pip --version || python3 -m venv /pip
ENV PATH=/pip/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
COPY image/requirements.txt image/build-requirements.txt ./
# Without dependencies: requirements.txt is the whole list, and leaves out what only Triton's client would use.
RUN python3 -m venv --without-pip /opt/triton-probe \
 && python3 -m pip --python /opt/triton-probe/bin/python3 install --no-compile \
      --no-deps --only-binary=:all: --require-hashes -r requirements.txt \
 && python3 -m pip install --target /build/backend --no-deps --only-binary=:all: --require-hashes \
      -r build-requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY probe ./probe
RUN PYTHONPATH=/build/backend python3 -m pip --python /opt/triton-probe/bin/python3 install --no-compile \
      --no-deps --no-index --no-build-isolation .
COPY image/root.py ./
RUN mkdir /root-of-image && /opt/triton-probe/bin/python3 root.py /opt/triton-probe /root-of-image

# From nothing: the base's shell, apt, perl and pip stay behind, and with them half of its size.
FROM scratch
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="triton-probe" \
      org.opencontainers.image.description="Health and device-placement probe for NVIDIA Triton Inference Server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /root-of-image /
# PYTHONDONTWRITEBYTECODE: everything is compiled.  OPENBLAS_NUM_THREADS: nothing here multiplies matrices; should
# numpy ever be brought in, it would keep a buffer for each core of the node.  NVIDIA_DRIVER_CAPABILITIES: NVML
# alone, where a runtime gives this container GPUs at all; it asks for none (that would be NVIDIA_VISIBLE_DEVICES).
ENV PATH=/opt/triton-probe/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    NVIDIA_DRIVER_CAPABILITIES=utility
USER 1000:1000
EXPOSE 8003
STOPSIGNAL SIGTERM
# Of the probe itself, whatever Triton does.  Kubernetes ignores it; where --listen is changed, TRITON_PROBE_URL.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["triton-probe", "check", "--gate", "health"]
ENTRYPOINT ["triton-probe"]
CMD ["serve"]
