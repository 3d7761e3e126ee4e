//! docker's default system call filter, compiled to classic BPF.
//!
//! `profile` is the table of what is allowed, `bpf` turns a table into a program. A call that is
//! not allowed fails with `EPERM`; one that is newer than everything the table knows fails with
//! `ENOSYS`, so that programs fall back to older calls instead of giving up.

mod bpf;
pub(crate) mod clock;
mod profile;

use crate::capability::CapabilitySet;
pub(crate) use profile::{Number, numbers};
use std::borrow::Cow;
use std::sync::LazyLock;
use sys::seccomp::Instruction;

/// An architecture that a container can run on, with those that its kernel runs besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86_64, x32 and i386 programs.
    X86_64,
    /// aarch64 and 32-bit arm programs.
    Aarch64,
}

impl Architecture {
    /// The one that this program was built for; `None` where there is no table.
    pub const fn native() -> Option<Architecture> {
        if cfg!(target_arch = "x86_64") {
            Some(Architecture::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Architecture::Aarch64)
        } else {
            None
        }
    }
}

/// The filter for a process that may have these capabilities: some calls are allowed only with the
/// capability that they need anyway.
pub fn docker_default(
    architecture: Architecture,
    capabilities: CapabilitySet,
) -> Cow<'static, [Instruction]> {
    match capabilities {
        CapabilitySet::DOCKER_DEFAULT if Some(architecture) == Architecture::native() => {
            Cow::Borrowed(&USUAL)
        }
        _ => Cow::Owned(compile(architecture, Some(capabilities), &[])),
    }
}

/// docker's filter for a process with these capabilities, or with `None` one that allows every
/// call, which leaves the calls of these names to a listener.
pub(crate) fn compile(
    architecture: Architecture,
    docker: Option<CapabilitySet>,
    asked: &'static [&'static str],
) -> Vec<Instruction> {
    let rules = profile::Rules { docker, asked };
    bpf::compile(&profile::filters(architecture, rules))
}

/// The filter of nearly all processes.
static USUAL: LazyLock<Vec<Instruction>> = LazyLock::new(|| {
    let usual = |architecture| compile(architecture, Some(CapabilitySet::DOCKER_DEFAULT), &[]);
    Architecture::native().map_or_else(Vec::new, usual)
});

/// Compiles the filter of nearly all processes, so that copies of this one have it.
pub(crate) fn warm_up() {
    LazyLock::force(&USUAL);
}
