# syntax=docker/dockerfile:1
# An image with one job, for those who build with Docker:
#
#   docker build --build-arg JOB=books_data_product --build-arg REVISION=$(git rev-parse HEAD) --tag books_data_product .
#   docker run --read-only --tmpfs /tmp books_data_product --state s3://my-state/hardtack
#
# `hardtack package --image` builds images without Docker, with an SBOM and the same bytes each time.

FROM rust:1.95-bookworm AS build
ARG JOB
ARG REVISION
WORKDIR /src
COPY . .
# Crates and what they compile to stay on the machine that builds, so a change of a job compiles that job. A binary in a cache
# is not in the image; it is copied out.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    test -n "$JOB" || { echo "name the job: --build-arg JOB=books_data_product" >&2; exit 1; }; \
    if [ -n "$REVISION" ]; then export HARDTACK_REVISION="$REVISION"; fi; \
    cargo build --release --locked --package "$JOB" --bin "$JOB" && cp "target/release/$JOB" /job

# The C library, libgcc and CA certificates; no shell. The user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
# Nothing is written here: a run that was given no place for its state fails at once.
WORKDIR /
COPY --from=build /job /usr/local/bin/job
ENTRYPOINT ["/usr/local/bin/job"]
