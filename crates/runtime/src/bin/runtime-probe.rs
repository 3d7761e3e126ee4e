//! Tells what containers can do and cost on this machine; also the program that the integration
//! tests start containers through.
//!
//! ```text
//! runtime-probe                   the rung of the privilege ladder
//! runtime-probe bench DIR [N]     milliseconds of N runs of /bin/true over the tree DIR/root
//! runtime-probe run DIR [--network=host] ARG…
//!                                 runs ARG… over DIR/root, changes go to DIR/upper
//! ```
//!
//! `DIR` holds the directories `root`, `upper` and `work`.

#![expect(clippy::print_stdout, reason = "a program for people")]

use runtime::rootless::{Rung, Standing};
use runtime::{Exit, Helper, Network, ProcessSpec, Stream, spawn};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use sys::mount::{Lower, RootMount};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    runtime::init_if_child();
    let standing = runtime::rootless::enter()?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {
            println!("{:?}: {}", standing.rung, standing.explanation);
            if let Some(missing) = &standing.missing {
                println!("missing: {missing}");
            }
            Ok(ExitCode::SUCCESS)
        }
        ["bench", dir, rest @ ..] => {
            let runs = rest.first().map_or(Ok(100), |runs| runs.parse())?;
            bench(&spec(dir, &standing, &["/bin/true"]), runs)
        }
        ["run", dir, "--network=host", args @ ..] => {
            let mut spec = spec(dir, &standing, args);
            spec.network = Network::Host;
            run(&spec)
        }
        ["run", dir, args @ ..] => run(&spec(dir, &standing, args)),
        _ => Err("usage: runtime-probe [bench DIR [N] | run DIR ARG…]".into()),
    }
}

fn spec(dir: &str, standing: &Standing, args: &[&str]) -> ProcessSpec {
    let dir: PathBuf = Path::new(dir).into();
    let root = RootMount::Overlay {
        lowers: vec![Lower::Dir(dir.join("root"))],
        upper: dir.join("upper"),
        work: dir.join("work"),
        userxattr: standing.userxattr,
    };
    let mut spec = ProcessSpec::new(root, args.iter().copied());
    spec.one_id = standing.rung == Rung::Single;
    spec
}

fn run(spec: &ProcessSpec) -> Result<ExitCode, Box<dyn Error>> {
    let mut failed = Ok(());
    let outcome = spawn(&Helper::current(), spec)?.wait(|stream, bytes| {
        let written = match stream {
            Stream::Stdout => std::io::stdout().write_all(bytes),
            Stream::Stderr => std::io::stderr().write_all(bytes),
        };
        if written.is_err() {
            failed = written;
        }
    })?;
    failed?;
    Ok(match outcome.exit {
        Exit::Code(code) => ExitCode::from(u8::try_from(code)?),
        Exit::Signal(signal) => ExitCode::from(u8::try_from(128 + signal)?),
    })
}

fn bench(spec: &ProcessSpec, runs: usize) -> Result<ExitCode, Box<dyn Error>> {
    let mut times = Vec::with_capacity(runs);
    let helper = Helper::current();
    for _ in 0..runs {
        let start = Instant::now();
        let outcome = spawn(&helper, spec)?.wait(|_, _| {})?;
        times.push(start.elapsed());
        if outcome.exit != Exit::Code(0) {
            return Err(format!("/bin/true ended with {:?}", outcome.exit).into());
        }
    }
    times.sort();
    let millis = |time: Option<&Duration>| time.map_or(0.0, Duration::as_secs_f64) * 1e3;
    println!(
        "{runs} runs: median {:.2} ms, p90 {:.2} ms, min {:.2} ms",
        millis(times.get(runs / 2)),
        millis(times.get(runs * 9 / 10)),
        millis(times.first()),
    );
    Ok(ExitCode::SUCCESS)
}
