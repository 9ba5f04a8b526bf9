# syntax=docker/dockerfile:1
# A static binary on an empty base. The chart and multi-architecture builds come with the installation.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    RUSTFLAGS='-C target-feature=+crt-static' \
    cargo build --release --locked -p pod-reloader --target "$(rustc -vV | sed -n 's/^host: //p')" \
    && cp "target/$(rustc -vV | sed -n 's/^host: //p')/release/pod-reloader" /pod-reloader

FROM scratch
COPY --from=build /pod-reloader /pod-reloader
COPY LICENSE /LICENSE
USER 65532:65532
ENTRYPOINT ["/pod-reloader"]
