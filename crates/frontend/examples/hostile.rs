//! What files that nobody writes cost: `cargo run --release -p frontend --example hostile`.
//!
//! Every kind of file is made at a size and at twice that size, parsed, checked and lowered. Twice
//! the file may take twice the time and a little more; exits with an error when one takes longer.
#![expect(clippy::print_stdout, reason = "an example that measures")]

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use frontend::{Context, Known, LowerRequest, Lowering, NotResolved, ResolvedImage, lower};
use oci::{Digest, ImageConfig, Platform};

/// Of how many runs the fastest counts.
const RUNS: usize = 3;
/// Below this, times say more about the machine than about the file: the kernel counts them in
/// ticks of some milliseconds.
const NOISE: Duration = Duration::from_millis(50);
/// Twice the size may take this many times as long: linear, and what caches cost.
const WORST_GROWTH: f64 = 3.5;

/// A kind of file.
struct Kind {
    name: &'static str,
    /// What [`Kind::file`] is given, and then twice that.
    size: usize,
    file: fn(usize) -> String,
}

const fn kind(name: &'static str, size: usize, file: fn(usize) -> String) -> Kind {
    Kind { name, size, file }
}

const KINDS: &[Kind] = &[
    kind("words in a line of 64 KiB", 30_000, |n| {
        line("COPY ", "a ", n, "/d/")
    }),
    kind("pairs in one ENV", 40_000, |n| {
        continued("ENV", n, |i| format!("k{i}=v{i}"))
    }),
    kind("variables in one word", 20_000, |n| {
        line("LABEL a=", "$b", n, "")
    }),
    kind("substitutions one in the other", 10_000, |n| {
        line("ENV a=", "${a:-", n, "")
    }),
    kind("brackets one in the other", 30_000, |n| {
        line("CMD ", "[", n, "")
    }),
    kind("open quotes", 30_000, |n| line("ENV a=", "\"'", n, "")),
    kind("replacements that grow", 1_500, |n| {
        line("ENV b=a c=${b//a/aa} d=", "${c//?/${c//a/$b$b}}", n, "")
    }),
    kind("flags of one COPY", 40_000, |n| {
        continued("COPY", n, |i| format!("--exclude=f{i}"))
    }),
    kind("mounts of one RUN", 10_000, |n| {
        continued("RUN", n, |i| format!("--mount=type=cache,target=/c{i}")) + "  true\n"
    }),
    kind("ports of one EXPOSE", 20_000, |n| {
        continued("EXPOSE", n, |i| (i % 65_536).to_string())
    }),
    kind("continued lines", 100_000, |n| {
        continued("RUN", n, |i| format!("echo {i} &&"))
    }),
    kind("comments and empty lines between them", 50_000, |n| {
        continued("RUN", n, |i| format!("echo {i} && \\\n# comment\n\n"))
    }),
    kind("here-documents of one RUN", 10_000, |n| {
        let markers = continued("RUN", n, |i| format!("<<E{i}"));
        markers + "\n" + &repeat(n, |i| format!("text\nE{i}\n"))
    }),
    kind("here-documents", 10_000, |n| {
        repeat(n, |i| format!("COPY <<E /f{i}\n$PATH\nE\n"))
    }),
    kind("here-documents without an end", 10_000, |n| {
        repeat(n, |i| format!("RUN <<E{i}\n"))
    }),
    kind("copies whose owner is changed", 5_000, |n| {
        let copies = repeat(n, |i| format!("COPY f /d{i}\n"));
        copies + &repeat(n, |i| format!("RUN chown -R a /e{i}; chown -R b /f\n"))
    }),
    kind("stages", 10_000, |n| {
        repeat(n, |i| format!("FROM scratch AS s{i}\nRUN {i}\n"))
    }),
    kind("stages in a chain", 10_000, |n| {
        repeat(n, |i| {
            format!(
                "FROM s{} AS s{i}\nENV V{i}={i}\nRUN {i}\n",
                i.wrapping_sub(1)
            )
        })
        .replace(&format!("FROM s{}", usize::MAX), "FROM scratch")
    }),
    kind("stages in a circle", 10_000, |n| {
        repeat(n, |i| {
            format!("FROM scratch AS s{i}\nCOPY --from=s{} / /\n", (i + 1) % n)
        })
    }),
    kind("stages that copy from all", 5_000, |n| {
        let stages = repeat(n, |i| format!("FROM scratch AS s{i}\nCOPY f /{i}\n"));
        stages + "FROM scratch\n" + &repeat(n, |i| format!("COPY --from=s{i} /{i} /\n"))
    }),
    kind("stages of one name", 10_000, |n| {
        "FROM scratch AS s\nENV A=b\n".repeat(n)
    }),
    kind("images that do not exist", 4_000, |n| {
        repeat(n, |i| format!("FROM missing/i{i}\n"))
    }),
    kind("names that are none", 4_000, |n| {
        repeat(n, |i| format!("FROM Bad:{i}:x AS s{i}\n"))
    }),
    kind("triggers", 10_000, |n| {
        repeat(n, |i| format!("ONBUILD RUN {i}\n")) + "FROM base\nRUN x\n"
    }),
    kind("triggers that fire in many stages", 400, |n| {
        repeat(n, |i| format!("ONBUILD RUN {i}\n")) + &"FROM base\n".repeat(n)
    }),
    kind("triggers one in the other", 8_000, |n| {
        line("", "ONBUILD ", n, "RUN x")
    }),
    kind("ARG and RUN in turn", 5_000, |n| {
        repeat(n, |i| format!("ARG A{i}={i}\nRUN {i}\n"))
    }),
    kind("ENV and RUN in turn", 10_000, |n| {
        repeat(n, |i| format!("ENV A{i}={i}\nRUN {i}\n"))
    }),
    kind("long values and RUN in turn", 500, |n| {
        let value = "v".repeat(60_000);
        repeat(n, |i| format!("ENV A{}={value}{i}\nRUN {i}\n", i % 100))
    }),
    kind("values that double", 1_000, |n| "ENV a=xx$a$a\n".repeat(n)),
    kind("long names that nobody sets", 50, |n| {
        let name = "v".repeat(60_000);
        repeat(n, |i| format!("ENV A{name}{i}=1\nLABEL l{i}=$B{name}{i}\n"))
    }),
    kind("variables that nobody sets", 10_000, |n| {
        repeat(n, |i| format!("ENV A{i}=1\nLABEL l{i}=$B{i}\n"))
    }),
    kind("arguments of FROM that nobody declares", 4_000, |n| {
        repeat(n, |i| format!("FROM scratch${{X{i}}} AS s{i}\n"))
    }),
    kind("instructions that do not exist", 10_000, |n| {
        repeat(n, |i| format!("RNU{i} x\n"))
    }),
    kind("comments that skip checks", 10_000, |n| {
        repeat(n, |i| {
            format!("# check=skip=UndefinedVar\nENV A{i}=$B{i}\n")
        })
    }),
    kind("labels", 20_000, |n| {
        repeat(n, |i| format!("LABEL l{i}={i}\n"))
    }),
    kind("empty lines", 200_000, |n| "\n".repeat(n)),
    kind("bytes that are not UTF-8", 20_000, |n| {
        repeat(n, |i| format!("RUN \u{fffd}{i}\n"))
    }),
];

fn repeat(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

/// One line: a head, a piece many times, a tail.
fn line(head: &str, piece: &str, count: usize, tail: &str) -> String {
    format!("{head}{}{tail}\n", piece.repeat(count))
}

/// One instruction whose words stand on lines of their own.
fn continued(keyword: &str, count: usize, word: impl Fn(usize) -> String) -> String {
    let mut text = keyword.to_owned();
    for index in 0..count {
        write!(text, " \\\n  {}", word(index)).expect("a String takes everything");
    }
    text + "\n"
}

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    println!(
        "{:42} {:>9} {:>12} {:>12} {:>8}",
        "kind", "size", "time", "twice", "growth"
    );
    for kind in KINDS {
        let once = fastest(&bytes(kind, kind.size));
        let twice = fastest(&bytes(kind, kind.size * 2));
        let growth = twice.as_secs_f64() / once.max(NOISE / 4).as_secs_f64();
        let too_slow = twice > NOISE && growth > WORST_GROWTH;
        let mark = if too_slow { "  worse than linear" } else { "" };
        let (name, size) = (kind.name, kind.size);
        println!("{name:42} {size:>9} {once:>12.2?} {twice:>12.2?} {growth:>8.1}{mark}");
        if too_slow {
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn bytes(kind: &Kind, size: usize) -> Vec<u8> {
    let text = (kind.file)(size);
    let begins = ["FROM", "\n"].iter().any(|head| text.starts_with(head));
    let head = if begins { "" } else { "FROM scratch AS base\n" };
    let mut bytes = format!("{head}{text}").into_bytes();
    // What stands for a byte that is no text becomes one.
    for index in 0..bytes.len() {
        if bytes[index..].starts_with("\u{fffd}".as_bytes()) {
            bytes[index..index + 3].fill(0xff);
        }
    }
    bytes
}

fn fastest(bytes: &[u8]) -> Duration {
    let times = (0..RUNS).map(|_| measure(bytes));
    times.min().unwrap_or_default()
}

/// Time that this thread was on a processor; other programs do not count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.expect("Linux says how long a thread ran"))
}

/// Parses, checks and lowers every stage; images called `missing` do not exist.
fn measure(bytes: &[u8]) -> Duration {
    let begun = processor_time();
    let parsed = dockerfile::parse(bytes);
    let mut request = LowerRequest::new(Platform::new("linux", "amd64", None));
    request.all_stages = true;
    let ignore = vec!["*.o".to_owned(), "!a.o".to_owned()];
    request.context = Context::Files { ignore };
    let mut known = Known::new();
    while let Ok(Lowering::Needs(needs)) = lower(&parsed.dockerfile, &request, &known) {
        for need in needs {
            let image = ResolvedImage {
                reference: "image".parse().expect("a valid name"),
                manifest: Digest::sha256(need.to_string()),
                config: Arc::new(ImageConfig::default()),
            };
            let missing = need.to_string().contains("missing");
            let answer = match missing {
                true => Err(NotResolved {
                    message: "no such image".to_owned(),
                    help: None,
                }),
                false => Ok(image),
            };
            known.insert(need, answer);
        }
    }
    processor_time() - begun
}
