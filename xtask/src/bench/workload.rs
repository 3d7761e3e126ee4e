//! The workloads, as data: the files of a context, and the builds that are made of it in turn.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::Result;

use super::content;

/// Builds of one context, one after the other on one store.
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Writes the context, or puts back what a round before edited; `scale` divides its size.
    pub(super) files: fn(context: &Path, scale: usize) -> Result<()>,
    pub(super) phases: &'static [Phase],
}

/// One build.
pub(super) struct Phase {
    /// How it is called; without a name it is a preparation.
    pub(super) name: &'static str,
    /// What changes before it.
    pub(super) edit: fn(context: &Path) -> Result<()>,
    pub(super) dockerfile: &'static str,
    pub(super) to: To,
    /// Its time is divided by this.
    pub(super) steps: u32,
    /// How often it is measured in one round: more than once only where it changes nothing.
    pub(super) repeat: usize,
}

/// Where a build's image goes.
#[derive(Clone, Copy)]
pub(super) enum To {
    /// The tool's store only.
    Store,
    /// An archive beside it.
    Archive,
    /// An empty registry on this machine, layers compressed with gzip.
    Registry,
}

const BUILD: Phase = Phase {
    name: "cold",
    edit: |_| Ok(()),
    dockerfile: "Dockerfile",
    to: To::Store,
    steps: 1,
    repeat: 1,
};
const PREPARE: Phase = Phase { name: "", ..BUILD };
const UNCHANGED: Phase = Phase {
    name: "unchanged",
    repeat: 5,
    ..BUILD
};
const EXPORT: Phase = Phase {
    to: To::Archive,
    ..BUILD
};
const UNCHANGED_EXPORT: Phase = Phase {
    to: To::Archive,
    ..UNCHANGED
};
const ONE_FILE: Phase = Phase {
    name: "one file changed",
    edit: append,
    ..EXPORT
};

const START: &str = "FROM scratch\nADD base.tar /\n";

/// Everything that is measured.
pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "noop20",
        what: "20 steps, nothing changed",
        files: |context, _| steps(context, 18, 1),
        phases: &[PREPARE, UNCHANGED],
    },
    Workload {
        name: "noop500",
        what: "500 steps, one in ten a RUN, nothing changed",
        files: |context, _| steps(context, 498, 10),
        phases: &[PREPARE, UNCHANGED],
    },
    Workload {
        name: "run100",
        what: "100 trivial RUN, time of each with its commit",
        files: |context, _| {
            fs::write(context.join("Dockerfile.base"), START)?;
            steps(context, 100, 1)
        },
        phases: &[
            Phase {
                dockerfile: "Dockerfile.base",
                ..PREPARE
            },
            Phase {
                name: "each step",
                steps: 100,
                ..BUILD
            },
        ],
    },
    Workload {
        name: "context30k",
        what: "30,000 files, 105 MB: COPY, RUN, OCI archive",
        files: |context, scale| {
            content::tree(&context.join("src"), 30_000 / scale, 3500)?;
            dockerfile(context, "COPY src /app/src\nRUN ls /app/src > /list\n")
        },
        phases: &[EXPORT, UNCHANGED_EXPORT, ONE_FILE],
    },
    Workload {
        name: "context200k",
        what: "200,000 files of 20 bytes: COPY, RUN, OCI archive",
        files: |context, scale| {
            content::tree(&context.join("src"), 200_000 / scale, 20)?;
            dockerfile(context, "COPY src /app/src\nRUN ls /app/src > /list\n")
        },
        phases: &[EXPORT, UNCHANGED_EXPORT, ONE_FILE],
    },
    Workload {
        name: "bigfile",
        what: "COPY of one file of 512 MB, no archive",
        files: big,
        phases: &[BUILD, UNCHANGED],
    },
    Workload {
        name: "parallel6",
        what: "six independent stages of sleep 1",
        files: |context, _| {
            let stages =
                (0..6).map(|n| format!("FROM base AS s{n}\nRUN sleep 1 && echo {n} > /out{n}\n"));
            let copies = (0..6).map(|n| format!("COPY --from=s{n} /out{n} /\n"));
            let text = START.replace("scratch", "scratch AS base");
            let text: String = std::iter::once(text)
                .chain(stages)
                .chain(["FROM base\n".to_string()])
                .chain(copies)
                .collect();
            Ok(fs::write(context.join("Dockerfile"), text)?)
        },
        phases: &[BUILD],
    },
    Workload {
        name: "export512",
        what: "512 MB of half-compressible data to an OCI archive with gzip",
        files: big,
        phases: &[
            PREPARE,
            Phase {
                name: "archive of a built image",
                ..EXPORT
            },
            UNCHANGED_EXPORT,
        ],
    },
    Workload {
        name: "push512",
        what: "the same data, built before, to an empty registry with gzip",
        files: big,
        phases: &[
            PREPARE,
            Phase {
                name: "push of a built image",
                to: To::Registry,
                ..BUILD
            },
        ],
    },
    Workload {
        name: "build512",
        what: "the same data, from nothing to an OCI archive with gzip",
        files: big,
        phases: &[EXPORT],
    },
    Workload {
        name: "layer4g",
        what: "a layer of 4 GB, a quarter of it data, to an OCI archive with gzip: for its memory",
        files: |context, scale| {
            content::sparse(&context.join("big"), 1, 4096 / scale)?;
            dockerfile(context, "COPY big /big\n")
        },
        phases: &[EXPORT],
    },
    Workload {
        name: "dense4g",
        what: "a layer of 4 GB without holes, to an OCI archive with gzip: for its memory",
        files: |context, scale| {
            content::file(&context.join("big"), 1, (4 << 30) / scale)?;
            dockerfile(context, "COPY big /big\n")
        },
        phases: &[EXPORT],
    },
    Workload {
        name: "reexport",
        what: "a layer of 105 MB in 30 files of which one changes, to an OCI archive",
        files: |context, scale| {
            fs::create_dir_all(context.join("src/d000"))?;
            for number in 0..30 {
                let path = context.join(format!("src/d000/f{number:05}.txt"));
                content::file(&path, number, 3_500_000 / scale)?;
            }
            dockerfile(context, "COPY src /app/src\n")
        },
        phases: &[EXPORT, ONE_FILE],
    },
];

fn dockerfile(context: &Path, rest: &str) -> Result<()> {
    Ok(fs::write(
        context.join("Dockerfile"),
        format!("{START}{rest}"),
    )?)
}

/// So many instructions after the first two, every `every`th a RUN, the others ENV.
fn steps(context: &Path, count: usize, every: usize) -> Result<()> {
    let lines = (0..count).map(|number| {
        if number % every == 0 {
            format!("RUN true {number}\n")
        } else {
            format!("ENV NUMBER={number}\n")
        }
    });
    dockerfile(context, &lines.collect::<String>())
}

fn big(context: &Path, scale: usize) -> Result<()> {
    content::file(&context.join("big"), 1, (512 << 20) / scale)?;
    dockerfile(context, "COPY big /big\n")
}

/// The file that [`append`] changes. It is written anew for each tool: its length is wrong then.
const EDITED: &str = "src/d000/f00007.txt";

fn append(context: &Path) -> Result<()> {
    let mut file = File::options().append(true).open(context.join(EDITED))?;
    Ok(file.write_all(b"changed\n")?)
}
