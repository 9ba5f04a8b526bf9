# syntax=docker/dockerfile:1
# A static binary on an empty base:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REPOSITORY:VERSION \
#     --build-arg REVISION="$(git rev-parse HEAD)" --build-arg CREATED="$(git log -1 --format=%cI)" .
#
# `make image` makes the same image without an engine: e2e/image/pack.sh reads the last stage.

# Always on the building machine's own architecture: under emulation the compiler takes many times as long.
FROM --platform=$BUILDPLATFORM rust:1.95-bookworm AS build
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
printf '%s\n' >"$CARGO_HOME/config.toml" \
    "build.target = '$cpu-unknown-linux-gnu'" \
    "[target.$cpu-unknown-linux-gnu]" \
    "linker = '$cpu-linux-gnu-gcc'" \
    "rustflags = ['-C', 'target-feature=+crt-static']"
SCRIPT

WORKDIR /src
COPY . .
# Caches of its own for each architecture, since two are built at the same time.
RUN --mount=type=cache,id=cargo-registry-$TARGETARCH,target=/usr/local/cargo/registry \
    --mount=type=cache,id=pod-reloader-target-$TARGETARCH,target=/src/target \
    cargo build --release --locked --package pod-reloader \
    && cp target/*-unknown-linux-gnu/release/pod-reloader /pod-reloader

FROM scratch
ARG VERSION=1.0.0
ARG REVISION
ARG CREATED
COPY --from=build --chmod=755 /pod-reloader /pod-reloader
COPY --chmod=644 LICENSE /licenses/LICENSE
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
