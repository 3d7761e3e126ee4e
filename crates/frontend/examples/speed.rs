//! How long parsing and lowering take: `cargo run --release -p frontend --example speed`.
//!
//! The bounds are those that users notice: 1 ms for a file as people write it, 20 ms for 5,000
//! lines. Exits with an error when one is missed.
#![expect(clippy::print_stdout, reason = "an example that measures")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frontend::{Known, LowerRequest, Lowering, ResolvedImage, lower};
use oci::{Digest, ImageConfig, Platform};

const RUNS: usize = 50;

const USUAL: &str = r#"# syntax=docker/dockerfile:1
ARG GO=1.22
FROM --platform=$BUILDPLATFORM golang:${GO} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -ldflags "-X main.version=$VERSION" -o /out/app ./cmd/app

FROM node:22 AS assets
WORKDIR /web
COPY web/package.json web/package-lock.json ./
RUN npm ci
COPY web/ ./
RUN npm run build

FROM alpine:3.20
RUN apk add --no-cache ca-certificates && adduser -D app
COPY --from=build --chown=app /out/app /usr/bin/app
COPY --from=assets /web/dist /srv/www
COPY <<EOF /etc/app.conf
listen = :8080
root = /srv/www
EOF
ENV APP_ENV=production
EXPOSE 8080
USER app
HEALTHCHECK --interval=30s CMD ["app", "health"]
ENTRYPOINT ["/usr/bin/app"]
CMD ["serve"]
"#;

fn main() -> ExitCode {
    let lines = |number: usize| {
        format!(
            "ENV V{number}=$V0-{number}\nRUN make {number}\nCOPY src/{number} /dst/\n\
             LABEL l{number}=${{V{number}:-none}}\n"
        )
    };
    let long = format!(
        "FROM busybox\n{}",
        (0..1_250).map(lines).collect::<String>()
    );
    let cases = [
        ("a usual file", USUAL, Duration::from_millis(1)),
        ("5,000 lines", long.as_str(), Duration::from_millis(20)),
    ];
    let mut code = ExitCode::SUCCESS;
    for (name, text, bound) in cases {
        let mut times: Vec<Duration> = (0..RUNS).map(|_| measure(text)).collect();
        let first = times[0];
        times.sort();
        let (median, worst) = (times[RUNS / 2], times[RUNS - 1]);
        println!("{name}: first {first:?}, median {median:?}, worst {worst:?}, bound {bound:?}");
        if median > bound {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Parses and lowers once, all questions included.
fn measure(text: &str) -> Duration {
    let begun = Instant::now();
    let parsed = dockerfile::parse(text.as_bytes());
    let request = LowerRequest::new(Platform::new("linux", "amd64", None));
    let mut known = Known::new();
    loop {
        match lower(&parsed.dockerfile, &request, &known) {
            Ok(Lowering::Done(lowered)) => {
                assert!(!lowered.definition.vertices().is_empty());
                return begun.elapsed();
            }
            Ok(Lowering::Needs(needs)) => {
                for need in needs {
                    let image = ResolvedImage {
                        reference: "image".parse().expect("a valid name"),
                        manifest: Digest::sha256(need.to_string()),
                        config: Arc::new(ImageConfig::default()),
                    };
                    known.insert(need, Ok(image));
                }
            }
            Err(error) => panic!("{:?}", error.diagnostics),
        }
    }
}
