# Build: docker build -t kurier .
FROM rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
# Named by the manifest, so cargo wants to see them.
COPY benches ./benches
RUN cargo build --release --locked --no-default-features && strip target/release/kurier

# glibc and the authorities' certificates, nothing else.
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin kurier \
 && install -d -o kurier -g kurier /data
COPY --from=build /src/target/release/kurier /usr/local/bin/kurier
USER kurier
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["kurier", "health", "--config", "/etc/kurier/routes.yaml"]
ENTRYPOINT ["kurier"]
CMD ["serve", "--config", "/etc/kurier/routes.yaml"]
