//! `cargo xtask bench`: the same builds by kiln and by whichever of docker and buildah are
//! installed, in turn in one run; medians and ratios as a table and as JSON. Where docker has no
//! daemon that answers, root gets one for the run.
//!
//! Every Dockerfile starts from `scratch` and an archive made of Debian's static busybox, so that
//! no tool needs a registry. Each round of a workload gives each tool a store that holds nothing.
//! Judges nothing: figures depend on the machine.

mod content;
mod report;
mod tool;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::machine::{self, root, run_with};
use crate::registry::Registry;
use report::{Row, Samples};
use tool::{Target, Tool};
use workload::{Phase, To, WORKLOADS, Workload};

/// What was asked for.
struct Options {
    only: Vec<String>,
    tools: Vec<String>,
    /// A workload, and the tool that leaves it out, or none for all.
    skip: Vec<(String, Option<String>)>,
    runs: usize,
    quick: bool,
    json: Option<PathBuf>,
}

impl Options {
    /// Whether a tool takes part, given by the beginning of its name in tables.
    fn wants(&self, tool: &str) -> bool {
        self.tools.is_empty()
            || self
                .tools
                .iter()
                .any(|name| tool.starts_with(name.as_str()))
    }

    fn skips(&self, workload: &str, tool: &str) -> bool {
        self.skip.iter().any(|(name, of)| {
            name == workload && of.as_ref().is_none_or(|of| tool.starts_with(of.as_str()))
        })
    }
}

/// Measures, and prints what was measured.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = parse(arguments)?;
    machine::ensure(&[machine::DEMO])?;
    run_with(Command::new("cargo").args(["build", "--release", "--locked", "--package", "cli"]))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let folder = target.join("bench");
    remove(&folder)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    content::base(&folder)?;
    let workloads = chosen(&options)?;
    let kiln = target.join("release/kiln");
    let tools = Tool::installed(&kiln, &folder.join("docker"), |tool| options.wants(tool))?;
    for name in &options.tools {
        if !tools.iter().any(|tool| tool.name().starts_with(name)) {
            bail!("no tool `{name}` can be used here");
        }
    }
    let mut rows = Vec::new();
    for workload in workloads {
        eprintln!("{}: {}", workload.name, workload.what);
        rows.extend(measure(workload, &tools, &folder, &options)?);
        remove(&folder.join(workload.name))?;
    }
    let names: Vec<&str> = tools.iter().map(Tool::name).collect();
    print!("{}", report::table(&names, &rows));
    for line in report::comparison(&names, &rows) {
        println!("\n{line}");
    }
    for note in tools.iter().filter_map(Tool::note) {
        println!("\n{note}");
    }
    if let Some(path) = &options.json {
        let json = report::json(&names, &rows);
        fs::write(path, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn parse(arguments: &[&str]) -> Result<Options> {
    let mut options = Options {
        only: Vec::new(),
        tools: Vec::new(),
        skip: Vec::new(),
        runs: 5,
        quick: false,
        json: None,
    };
    let mut words = arguments.iter();
    while let Some(&word) = words.next() {
        let mut value = || {
            words
                .next()
                .copied()
                .with_context(|| format!("{word} needs a value"))
        };
        match word {
            "--only" => options.only.push(value()?.to_string()),
            "--tool" => options.tools.push(value()?.to_string()),
            "--skip" => {
                let text = value()?;
                let (workload, tool) = match text.split_once(':') {
                    Some((workload, tool)) => (workload, Some(tool.to_string())),
                    None => (text, None),
                };
                options.skip.push((workload.to_string(), tool));
            }
            "--runs" => options.runs = value()?.parse().context("--runs takes a number")?,
            "--json" => options.json = Some(std::path::absolute(value()?)?),
            "--quick" => options.quick = true,
            other => bail!("no flag `{other}` of bench"),
        }
    }
    if options.runs == 0 {
        bail!("--runs takes a number of at least 1");
    }
    Ok(options)
}

fn chosen(options: &Options) -> Result<Vec<&'static Workload>> {
    let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
    let skipped = options.skip.iter().map(|(name, _)| name);
    let mut named = options.only.iter().chain(skipped);
    if let Some(unknown) = named.find(|name| !names.contains(&name.as_str())) {
        bail!("no workload `{unknown}`: there are {}", names.join(", "));
    }
    let wanted = |workload: &&Workload| {
        let asked = |name: &String| name == workload.name;
        let everybody = |(name, tool): &(String, Option<String>)| asked(name) && tool.is_none();
        (options.only.is_empty() || options.only.iter().any(asked))
            && !options.skip.iter().any(everybody)
    };
    Ok(WORKLOADS.iter().filter(wanted).collect())
}

/// All rounds of one workload; one row for each of its measured phases.
fn measure(
    workload: &Workload,
    tools: &[Tool],
    folder: &Path,
    options: &Options,
) -> Result<Vec<Row>> {
    let folder = folder.join(workload.name);
    let context = folder.join("context");
    let scale = if options.quick { 10 } else { 1 };
    fs::create_dir_all(&context)?;
    let base = folder.with_file_name("base.tar");
    fs::copy(base, context.join("base.tar"))?;
    let mut samples = vec![vec![Samples::default(); tools.len()]; workload.phases.len()];
    let rounds = if options.quick { 1 } else { options.runs };
    // The last round measures memory: under `time` a build takes a little longer.
    for round in 0..=rounds {
        (workload.files)(&context, scale)?;
        for (column, tool) in tools.iter().enumerate() {
            let measures_memory = round == rounds;
            if measures_memory && column > 0 || options.skips(workload.name, tool.name()) {
                continue;
            }
            // The same start for each tool, whatever the one before it edited.
            (workload.files)(&context, scale)?;
            let store = folder.join(tool.name());
            tool.clear(&store)?;
            for (phase, samples) in workload.phases.iter().zip(&mut samples) {
                let samples = &mut samples[column];
                if measures_memory {
                    samples.memory = perform(phase, tool, &store, &context, true)?.1;
                } else {
                    for _ in 0..phase.repeat {
                        let (time, _) = perform(phase, tool, &store, &context, false)?;
                        samples.times.push(time / phase.steps);
                    }
                }
            }
            tool.clear(&store)?;
        }
    }
    let measured = workload.phases.iter().zip(samples);
    Ok(measured
        .filter(|(phase, _)| !phase.name.is_empty())
        .map(|(phase, samples)| Row {
            workload: workload.name,
            phase: phase.name,
            samples,
        })
        .collect())
}

/// One build: how long it took, and the most memory it had, in bytes, if `memory` was asked for.
fn perform(
    phase: &Phase,
    tool: &Tool,
    store: &Path,
    context: &Path,
    memory: bool,
) -> Result<(Duration, Option<u64>)> {
    (phase.edit)(context)?;
    let file = context.join(phase.dockerfile);
    let build = |target: Target| {
        tool.build(store, &file, context, &target, memory)
            .with_context(|| format!("{} could not build", tool.name()))
    };
    match phase.to {
        To::Store => build(Target::Store),
        To::Archive => build(Target::Archive(store.with_extension("oci.tar"))),
        To::Registry => {
            // One that never saw a layer.
            let state = store.with_extension("registry");
            fs::create_dir_all(&state)?;
            let registry = Registry::start(&state)?;
            let result = build(Target::Registry(format!("{}/bench", registry.address)));
            drop(registry);
            remove(&state)?;
            result
        }
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of two workloads each tool measures: `kiln:noop20,noop500 docker (BuildKit):noop20`.
    #[track_caller]
    fn check(arguments: &str, expected: &str) {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let plan = parse(&arguments).and_then(|options| {
            let workloads = chosen(&options)?;
            let of = |tool: &str| {
                let names = workloads.iter().map(|workload| workload.name);
                let names = names.filter(|name| name.starts_with("noop"));
                let names = names.filter(|name| !options.skips(name, tool));
                format!("{tool}:{}", names.collect::<Vec<_>>().join(","))
            };
            let tools = ["kiln", "docker (BuildKit)"].into_iter();
            let tools = tools.filter(|tool| options.wants(tool));
            Ok(tools.map(of).collect::<Vec<_>>().join(" "))
        });
        assert_eq!(plan.unwrap_or_else(|error| error.to_string()), expected);
    }

    #[test]
    fn workloads_and_tools_that_are_left_out() {
        check("", "kiln:noop20,noop500 docker (BuildKit):noop20,noop500");
        check("--only noop20", "kiln:noop20 docker (BuildKit):noop20");
        check("--tool docker", "docker (BuildKit):noop20,noop500");
        check("--skip noop20 --tool kiln", "kiln:noop500");
        check(
            "--skip noop500:docker",
            "kiln:noop20,noop500 docker (BuildKit):noop20",
        );
        check("--skip", "--skip needs a value");
        check("--fast", "no flag `--fast` of bench");
        let unknown =
            parse(&["--skip", "noop:docker"]).and_then(|options| chosen(&options).map(drop));
        assert!(unknown.is_err_and(|error| error.to_string().starts_with("no workload `noop`")));
    }
}
