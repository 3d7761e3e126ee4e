//! Why a program could not be started, in terms that a user can act on.
//!
//! The kernel answers `ENOENT` for a missing script interpreter and `ENOEXEC` for several different
//! things; looking at the first bytes of the file tells them apart.

use crate::wire::wire_enum;
use std::io;

/// A program that did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// There is no such program in the container.
    #[error("executable {program:?} not found{}", In(.path))]
    NotFound {
        /// As it was asked for.
        program: String,
        /// The `PATH` that was searched; empty when the program was given with a `/`.
        path: String,
    },
    /// There is one, but it may not be executed.
    #[error("permission denied to execute {program:?}")]
    PermissionDenied {
        /// Its path.
        program: String,
    },
    /// It is a directory.
    #[error("{program:?} is a directory, not a program")]
    Directory {
        /// Its path.
        program: String,
    },
    /// The interpreter of a script, or the dynamic loader of a binary, is missing.
    #[error("{program:?} needs {interpreter:?}, which is not there")]
    NoInterpreter {
        /// Path of the script or binary.
        program: String,
        /// What its `#!` line or ELF header names.
        interpreter: String,
    },
    /// The script's `#!` line ends with a carriage return: the file has Windows line ends.
    #[error("the #! line of {program:?} ends with a carriage return (Windows line ends)")]
    CarriageReturn {
        /// Path of the script.
        program: String,
        /// The interpreter, without the carriage return.
        interpreter: String,
    },
    /// The binary is for another processor.
    #[error("{program:?} is a binary for {found}, not for {wanted}")]
    WrongArchitecture {
        /// Path of the binary.
        program: String,
        /// Processor that it was made for.
        found: String,
        /// Processor of this machine.
        wanted: String,
    },
    /// It is neither a binary nor a script with a `#!` line.
    #[error("exec format error: {program:?} is neither a binary nor a script with a #! line")]
    Format {
        /// Its path.
        program: String,
    },
    /// Another error of the kernel.
    #[error("execute {program:?}: {}", io::Error::from_raw_os_error(*.errno))]
    Other {
        /// Its path.
        program: String,
        /// The errno of `execve(2)`.
        errno: i32,
    },
}

struct In<'a>(&'a str);

impl std::fmt::Display for In<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            "" => Ok(()),
            path => write!(f, " in PATH={path}"),
        }
    }
}

impl ExecError {
    /// The exit code that docker gives it: 127 when something is not there, 126 when it cannot be
    /// executed.
    pub fn exit_code(&self) -> i32 {
        match self {
            ExecError::NotFound { .. }
            | ExecError::NoInterpreter { .. }
            | ExecError::CarriageReturn { .. } => 127,
            _ => 126,
        }
    }
}

wire_enum!(ExecError {
    0 => NotFound { program: program, path: path },
    1 => PermissionDenied { program: program },
    2 => Directory { program: program },
    3 => NoInterpreter { program: program, interpreter: interpreter },
    4 => CarriageReturn { program: program, interpreter: interpreter },
    5 => WrongArchitecture { program: program, found: found, wanted: wanted },
    6 => Format { program: program },
    7 => Other { program: program, errno: errno },
});

/// Explains an errno of `execve(2)` by the first bytes of the file (`None` when unreadable).
/// `exists` tells whether a path is there in the container.
pub(crate) fn explain(
    program: &str,
    errno: i32,
    head: Option<&[u8]>,
    exists: impl Fn(&str) -> bool,
) -> ExecError {
    let program = program.to_owned();
    match (errno, head.map(Kind::of)) {
        (libc_errno::ENOENT, None) => ExecError::NotFound {
            program,
            path: String::new(),
        },
        (libc_errno::ENOENT | libc_errno::ENOEXEC, Some(Kind::Script { interpreter })) => {
            match interpreter.strip_suffix('\r') {
                Some(clean) => ExecError::CarriageReturn {
                    program,
                    interpreter: clean.to_owned(),
                },
                None if errno == libc_errno::ENOENT || !exists(&interpreter) => {
                    ExecError::NoInterpreter {
                        program,
                        interpreter,
                    }
                }
                None => ExecError::Format { program },
            }
        }
        (libc_errno::ENOENT, Some(Kind::Binary { interpreter, .. })) => ExecError::NoInterpreter {
            program,
            interpreter: interpreter.unwrap_or_else(|| "its dynamic loader".to_owned()),
        },
        (libc_errno::ENOEXEC, Some(Kind::Binary { machine, .. })) if machine != NATIVE_MACHINE => {
            ExecError::WrongArchitecture {
                program,
                found: machine_name(machine),
                wanted: std::env::consts::ARCH.to_owned(),
            }
        }
        (libc_errno::ENOEXEC, _) => ExecError::Format { program },
        (libc_errno::EACCES | libc_errno::EPERM, _) => ExecError::PermissionDenied { program },
        _ => ExecError::Other { program, errno },
    }
}

/// The few errno values that matter here.
mod libc_errno {
    pub(super) const EPERM: i32 = 1;
    pub(super) const ENOENT: i32 = 2;
    pub(super) const ENOEXEC: i32 = 8;
    pub(super) const EACCES: i32 = 13;
}

/// What the head of an executable file shows.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Script {
        interpreter: String,
    },
    Binary {
        machine: u16,
        interpreter: Option<String>,
    },
    Unknown,
}

impl Kind {
    fn of(head: &[u8]) -> Kind {
        if let Some(line) = head.strip_prefix(b"#!") {
            let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            let word = line.trim_start_matches([' ', '\t']);
            let word = word.split([' ', '\t']).next().unwrap_or_default();
            return Kind::Script {
                interpreter: word.to_owned(),
            };
        }
        if head.starts_with(b"\x7fELF") && head.len() >= 20 {
            let machine = [head[18], head[19]];
            return Kind::Binary {
                machine: match head[5] {
                    2 => u16::from_be_bytes(machine),
                    _ => u16::from_le_bytes(machine),
                },
                interpreter: elf_interpreter(head),
            };
        }
        Kind::Unknown
    }
}

/// The dynamic loader that a little-endian 64-bit ELF file names, if its headers lie in `head`.
fn elf_interpreter(head: &[u8]) -> Option<String> {
    const PT_INTERP: u32 = 3;
    if head.get(4..6)? != [2, 1] {
        return None;
    }
    let number = |at: usize, len: usize| -> Option<usize> {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(head.get(at..at + len)?);
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let entry = table.checked_add(index * size)?;
        if number(entry, 4)? == PT_INTERP as usize {
            let (offset, len) = (number(entry + 8, 8)?, number(entry + 32, 8)?);
            let bytes = head.get(offset..offset.checked_add(len)?)?;
            let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
            return Some(String::from_utf8_lossy(bytes).into_owned());
        }
    }
    None
}

/// `e_machine` values by name.
const MACHINES: [(u16, &str); 9] = [
    (3, "x86"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
];

const NATIVE_MACHINE: u16 = if cfg!(target_arch = "aarch64") {
    183
} else {
    62
};

fn machine_name(machine: u16) -> String {
    let known = MACHINES.iter().find(|(number, _)| *number == machine);
    known.map_or_else(
        || format!("machine {machine}"),
        |(_, name)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01".to_vec();
        head.resize(128, 0);
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head
    }

    #[track_caller]
    fn check(errno: i32, head: &[u8], expect: &str, code: i32) {
        let head = (!head.is_empty()).then_some(head);
        let error = explain("/p", errno, head, |path| path == "/bin/sh");
        assert_eq!(error.to_string(), expect);
        assert_eq!(error.exit_code(), code);
    }

    #[test]
    fn errors_are_told_apart() {
        check(2, b"", "executable \"/p\" not found", 127);
        check(
            2,
            b"#!/bin/bash -e\n",
            "\"/p\" needs \"/bin/bash\", which is not there",
            127,
        );
        check(
            2,
            b"#! /usr/bin/env python\n",
            "\"/p\" needs \"/usr/bin/env\", which is not there",
            127,
        );
        check(
            2,
            b"#!/bin/sh\r\necho\r\n",
            "the #! line of \"/p\" ends with a carriage return (Windows line ends)",
            127,
        );
        check(
            2,
            &elf(62),
            "\"/p\" needs \"its dynamic loader\", which is not there",
            127,
        );
        check(13, b"x", "permission denied to execute \"/p\"", 126);
        check(
            8,
            b"echo hi\n",
            "exec format error: \"/p\" is neither a binary nor a script with a #! line",
            126,
        );
        check(
            8,
            &elf(22),
            &format!(
                "\"/p\" is a binary for s390x, not for {}",
                std::env::consts::ARCH
            ),
            126,
        );
        check(
            7,
            b"x",
            "execute \"/p\": Argument list too long (os error 7)",
            126,
        );
    }

    #[test]
    fn the_loader_of_a_binary_is_found() {
        let mut head = elf(62);
        head[32..40].copy_from_slice(&64u64.to_le_bytes());
        head[54..56].copy_from_slice(&56u16.to_le_bytes());
        head[56..58].copy_from_slice(&1u16.to_le_bytes());
        head[64..68].copy_from_slice(&3u32.to_le_bytes());
        head[72..80].copy_from_slice(&120u64.to_le_bytes());
        head[96..104].copy_from_slice(&8u64.to_le_bytes());
        head[120..128].copy_from_slice(b"/lib/ld\0");
        assert_eq!(elf_interpreter(&head).as_deref(), Some("/lib/ld"));
    }
}
