//! `cargo xtask reproducible`: which usual `RUN` steps give the same layer twice, with kiln and with
//! docker or else buildah, and why not.
//!
//! Every step is built twice without a cache, from two directories and some seconds apart, on top of
//! one base image with the tools that the steps need (made by mmdebstrap, and handed to everybody
//! through a registry, so that all have the same layers below). `kiln diff` compares the two images
//! that each tool pushed. Debian's mirror, PyPI and npm's registry have to be reachable.

mod builder;
mod report;
mod steps;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::machine::{self, Tool, root, run_with};
use crate::registry::Registry;
use builder::{Builder, Kiln, finish, output, quietly};
use steps::{PACKAGES, STEPS, Step, TOLD};

/// Beside what the demo needs.
const TOOLS: &[Tool] = &[
    Tool {
        path: "/usr/bin/mmdebstrap",
        package: "mmdebstrap",
    },
    Tool {
        path: CERTIFICATES,
        package: "ca-certificates",
    },
];

/// The certificates that this machine trusts.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where the table goes.
const DOCUMENT: &str = "docs/reproducibility.md";

/// Between the two builds of a step.
const PAUSE: Duration = Duration::from_millis(2500);

/// Builds everything twice; prints the table, and writes it into the document if it is whole.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (only, binary) = parse(arguments)?;
    machine::ensure(&[machine::DEMO, TOOLS])?;
    let folder = machine::target().join("reproducible");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let binary = match binary {
        Some(binary) => binary,
        None => machine::release_binary()?,
    };
    let kiln = Kiln { binary, folder };
    let builders = Builder::installed(&kiln);
    let registry = Registry::start(&kiln.folder)?;
    let wanted = |step: &&Step| only.is_empty() || only.iter().any(|name| name == step.name);
    let steps: Vec<&Step> = STEPS.iter().filter(wanted).collect();
    let table = make_table(&kiln, &builders, &steps, &registry.address);
    for builder in &builders {
        let mut names: Vec<String> = steps
            .iter()
            .flat_map(|step| images(&registry.address, builder, step))
            .collect();
        names.push(base(&registry.address));
        builder.forget(&names);
        builder.tidy();
    }
    drop(registry);
    // The archive of the base image stays.
    for name in [
        "store0", "store1", "store2", "registry", "context1", "context2", "base",
    ] {
        drop(fs::remove_dir_all(kiln.folder.join(name)));
    }
    let table = table?;
    print!("{table}");
    if only.is_empty() {
        let path = root().join(DOCUMENT);
        let document = fs::read_to_string(&path)?;
        let document = report::insert(&document, &table)
            .with_context(|| format!("{DOCUMENT} has no place for the table"))?;
        fs::write(&path, document)?;
    }
    Ok(())
}

fn parse(arguments: &[&str]) -> Result<(Vec<String>, Option<PathBuf>)> {
    let (mut only, mut binary) = (Vec::new(), None);
    let mut words = arguments.iter();
    while let Some(&word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word} needs a value"))?;
        match word {
            "--only" if STEPS.iter().any(|step| step.name == *value) => {
                only.push(value.to_string());
            }
            "--only" => {
                let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
                bail!("no step `{value}`: there are {}", names.join(", "));
            }
            "--kiln" => binary = Some(std::path::absolute(value)?),
            other => bail!("no flag `{other}` of reproducible"),
        }
    }
    Ok((only, binary))
}

/// The table, with what it was made of above it.
fn make_table(
    kiln: &Kiln,
    builders: &[Builder],
    steps: &[&Step],
    registry: &str,
) -> Result<String> {
    make_base(kiln, &base(registry))?;
    let mut rows = Vec::new();
    for step in steps {
        eprintln!("{}", step.name);
        rows.push((*step, compare(step, builders, kiln, registry)?));
    }
    let titles: Vec<&str> = builders.iter().map(Builder::title).collect();
    Ok(caption(kiln, builders)? + &report::table(&titles, &rows))
}

/// Day, and versions of the builders and of what is in the base image.
fn caption(kiln: &Kiln, builders: &[Builder]) -> Result<String> {
    let day = output(Command::new("date").args(["-u", "+%F"]))?;
    let builders: Vec<String> = builders
        .iter()
        .map(Builder::version)
        .collect::<Result<_>>()?;
    let mut status = Command::new("tar");
    status.arg("-xOf").arg(kiln.folder.join("base.tar"));
    let status = output(status.arg("./var/lib/dpkg/status"))?;
    Ok(report::caption(
        day.trim(),
        &builders,
        &report::versions(&status, TOLD),
    ))
}

/// Makes the base image and pushes it. What mmdebstrap made is kept for the next time.
fn make_base(kiln: &Kiln, name: &str) -> Result<()> {
    let archive = kiln.folder.join("base.tar");
    if !archive.exists() {
        let partial = kiln.folder.join("base.partial.tar");
        let mut command = Command::new("mmdebstrap");
        command.args(["--variant=apt", "--quiet"]);
        command.arg(format!("--include={}", PACKAGES.join(",")));
        run_with(command.arg("bookworm").arg(&partial))?;
        fs::rename(partial, &archive)?;
    }
    let context = kiln.folder.join("base");
    drop(fs::remove_dir_all(&context));
    fs::create_dir_all(&context)?;
    fs::hard_link(&archive, context.join("base.tar"))?;
    fs::write(context.join("Dockerfile"), "FROM scratch\nADD base.tar /\n")?;
    let mut command = kiln.command("store0");
    command.args(["build", "-q", "--push", "-t", name]);
    command.arg(&context);
    quietly(command)?;
    // From here on it comes from the registry for everybody.
    drop(fs::remove_dir_all(kiln.folder.join("store0")));
    Ok(())
}

/// The name of the base image.
fn base(registry: &str) -> String {
    format!("{registry}/base:1")
}

/// The names under which a builder pushes the two images of a step.
fn images(registry: &str, builder: &Builder, step: &Step) -> [String; 2] {
    [1, 2].map(|round| format!("{registry}/{}/{}:{round}", builder.name(), step.name))
}

/// The cells of one step: one for each builder.
fn compare(step: &Step, builders: &[Builder], kiln: &Kiln, registry: &str) -> Result<Vec<String>> {
    for round in [1, 2] {
        let context = kiln.folder.join(format!("context{round}"));
        write(step, &context, &base(registry))?;
        for builder in builders {
            let name = &images(registry, builder, step)[round - 1];
            builder.build(&context, round, name)?;
        }
        if round == 1 {
            std::thread::sleep(PAUSE);
        }
    }
    let mut cells = Vec::new();
    for builder in builders {
        let names = images(registry, builder, step);
        for name in &names {
            let mut pull = kiln.command("store1");
            pull.args(["pull", "-q", name]);
            quietly(pull)?;
        }
        let mut diff = kiln.command("store1");
        diff.args(["diff", "--format", "json"]).args(&names);
        let differences: Value = serde_json::from_slice(&finish(&mut diff, &[0, 1])?)?;
        cells.push(report::cell(&differences, layers(kiln, &names[0])?));
        builder.forget(&names);
    }
    Ok(cells)
}

/// How many layers an image has.
fn layers(kiln: &Kiln, name: &str) -> Result<usize> {
    let details = output(kiln.command("store1").args(["inspect", name]))?;
    let details: Value = serde_json::from_str(&details)?;
    let layers = details[0]["RootFS"]["Layers"].as_array();
    Ok(layers.context("an image has no layers")?.len())
}

/// Writes the context of a step.
fn write(step: &Step, folder: &Path, base: &str) -> Result<()> {
    drop(fs::remove_dir_all(folder));
    fs::create_dir_all(folder)?;
    for (name, text) in step.files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, text)?;
    }
    let text = step
        .dockerfile
        .replace("FROM base", &format!("FROM {base}"));
    fs::write(folder.join("Dockerfile"), text)?;
    Ok(())
}
