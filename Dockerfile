# syntax=docker/dockerfile:1
# A static binary on an empty base:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REPOSITORY:VERSION \
#     --build-arg REVISION="$(git rev-parse HEAD)" --build-arg CREATED="$(git log -1 --format=%cI)" .
#
# `make image` makes the same image without an engine: e2e/src/image reads the last stage.

# Pinned by digest: `make pin-base` asks for the one that the tag has today, and writes it here.
ARG RUST_IMAGE=rust:1.95-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1

# Always on the building machine's own architecture: under emulation the compiler takes many times as long.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
ARG TARGETARCH
# Debian names architectures as Docker does. For the machine's own, compiler and libc are there.
RUN <<'SCRIPT'
set -eu
case $TARGETARCH in
    amd64) cpu=x86_64 gcc=gcc-x86-64-linux-gnu ;;
    arm64) cpu=aarch64 gcc=gcc-aarch64-linux-gnu ;;
    *) echo "error: there is no build for '$TARGETARCH'" >&2; exit 1 ;;
esac
rustup target add "$cpu-unknown-linux-gnu"
if [ "$TARGETARCH" != "$(dpkg --print-architecture)" ]; then
    apt-get update
    apt-get install --yes --no-install-recommends "$gcc" "libc6-dev-$TARGETARCH-cross"
    rm -rf /var/lib/apt/lists/*
fi
SCRIPT

WORKDIR /src
COPY . .
# Caches of its own for each architecture, since two are built at the same time.
RUN --mount=type=cache,id=cargo-registry-$TARGETARCH,target=/usr/local/cargo/registry \
    --mount=type=cache,id=pod-reloader-target-$TARGETARCH,target=/src/target \
    --mount=type=cache,id=pod-reloader-tools-$TARGETARCH,target=/root/.cache/pod-reloader \
    e2e/image/binary.sh "$TARGETARCH" \
    && cp target/*-unknown-linux-gnu/release/pod-reloader /pod-reloader \
    && e2e/image/notices.sh "$TARGETARCH" >/THIRD-PARTY.txt

FROM scratch
ARG VERSION=1.0.0
ARG REVISION
ARG CREATED
COPY --from=build --chmod=755 /pod-reloader /pod-reloader
COPY --chmod=644 LICENSE /licenses/LICENSE
COPY --from=build --chmod=644 /THIRD-PARTY.txt /licenses/THIRD-PARTY.txt
LABEL org.opencontainers.image.title="pod-reloader" \
      org.opencontainers.image.description="Rolls out workloads when the ConfigMaps and Secrets they use change" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# Metrics, health and the webhook.
EXPOSE 8080 8081 9443
# By number: runAsNonRoot cannot tell who a name is.
USER 65532:65532
ENTRYPOINT ["/pod-reloader"]
