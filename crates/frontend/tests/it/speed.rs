//! Large files: nothing may be quadratic. The bounds are an order of magnitude above what an
//! unoptimised build takes, and two below what a quadratic one would.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::case;

#[track_caller]
fn check(text: &str, limit: Duration) {
    let file = dockerfile::parse(text.as_bytes()).dockerfile;
    let start = Instant::now();
    let lowered = case::lower_fully(&file, &Value::Null);
    let took = start.elapsed();
    assert!(lowered.is_ok(), "{:?}", lowered.err());
    assert!(took < limit, "lowering took {took:?}");
}

fn repeat(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[test]
fn ten_thousand_stages_in_a_chain() {
    let stages = repeat(10_000, |n| {
        let base = n
            .checked_sub(1)
            .map_or("busybox".to_owned(), |base| format!("s{base}"));
        format!("FROM {base} AS s{n}\nENV V{n}={n}\nLABEL l{n}={n}\nRUN {n}\n")
    });
    check(&stages, Duration::from_secs(10));
}

#[test]
fn ten_thousand_stages_in_one() {
    let stages = repeat(10_000, |n| format!("FROM busybox AS s{n}\nRUN {n}\n"));
    let copies = repeat(10_000, |n| format!("COPY --from=s{n} /x /x{n}\n"));
    check(
        &format!("{stages}FROM busybox\n{copies}"),
        Duration::from_secs(10),
    );
}

#[test]
fn five_thousand_lines() {
    let lines = repeat(1_250, |n| {
        format!("ENV V{n}=$V0-{n}\nRUN make {n}\nCOPY src/{n} /dst/\nLABEL l{n}=${{V{n}:-none}}\n")
    });
    check(&format!("FROM busybox\n{lines}"), Duration::from_secs(10));
}

#[test]
fn alternating_env_and_run() {
    let lines = repeat(2_500, |n| format!("ENV V{n}=value\nRUN make {n}\n"));
    check(&format!("FROM busybox\n{lines}"), Duration::from_secs(10));
}
