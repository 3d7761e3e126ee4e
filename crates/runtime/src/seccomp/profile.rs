//! The table of allowed system calls, and the filters that follow from it.

use super::Architecture;
use super::bpf::{ArchFilter, Verdict};
use crate::capability::{Capability, CapabilitySet};
use std::collections::BTreeMap;

/// One line a system call; its header explains the columns.
const TABLE: &str = include_str!("profile.txt");

/// Columns of the table that hold numbers.
#[derive(Clone, Copy)]
enum Column {
    X86_64 = 0,
    X32 = 1,
    X86 = 2,
    Aarch64 = 3,
    Arm = 4,
}

/// Added to the numbers of x32 calls, which are otherwise reported as x86_64.
const X32_BIT: u32 = 0x4000_0000;

/// Numbers from here on are private calls of arm's kernel, not part of its table.
const ARM_PRIVATE: u32 = 0x0f_0000;

/// `AUDIT_ARCH_*` values.
const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_X86: u32 = 0x4000_0003;
const AUDIT_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARM: u32 = 0x4000_0028;

/// Which calls are made, refused and asked about.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// docker's profile, for a process with these capabilities; else all calls are allowed.
    pub(super) docker: Option<CapabilitySet>,
    /// Calls that a listener decides on, by name; of `prctl`, what keeps capabilities. Those that
    /// set limits leave the one for locks, which is the listener's.
    pub(super) asked: &'static [&'static str],
}

/// A call on one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Number {
    /// `AUDIT_ARCH_*`
    pub(crate) audit: u32,
    /// As the kernel reports it.
    pub(crate) number: u32,
    /// Names without the suffix `32` mean a variant with 16-bit ids here, if there are both.
    pub(crate) has_short_ids: bool,
}

/// Every call of the table with its numbers on an architecture and those it runs besides.
pub(crate) fn numbers(architecture: Architecture) -> impl Iterator<Item = (&'static str, Number)> {
    const X86_64: [(Column, u32, u32, bool); 3] = [
        (Column::X86_64, AUDIT_X86_64, 0, false),
        (Column::X32, AUDIT_X86_64, X32_BIT, false),
        (Column::X86, AUDIT_X86, 0, true),
    ];
    const AARCH64: [(Column, u32, u32, bool); 2] = [
        (Column::Aarch64, AUDIT_AARCH64, 0, false),
        (Column::Arm, AUDIT_ARM, 0, true),
    ];
    let columns: &[_] = match architecture {
        Architecture::X86_64 => &X86_64,
        Architecture::Aarch64 => &AARCH64,
    };
    columns
        .iter()
        .flat_map(|&(column, audit, bit, has_short_ids)| {
            lines(column).map(move |(name, _, number)| {
                let number = Number {
                    audit,
                    number: number | bit,
                    has_short_ids,
                };
                (name, number)
            })
        })
}

/// The filters of an architecture and of those it runs besides.
pub(super) fn filters(architecture: Architecture, rules: Rules) -> Vec<ArchFilter> {
    let Some(capabilities) = rules.docker else {
        return asking_filters(architecture, rules.asked);
    };
    let column = |which| column(which, capabilities, rules.asked);
    match architecture {
        Architecture::X86_64 => {
            let mut native = column(Column::X86_64);
            let x32 = column(Column::X32);
            let blocks = [
                (0, newest(&native, X32_BIT)),
                (X32_BIT, newest(&x32, u32::MAX) | X32_BIT),
            ];
            native.extend(
                x32.iter()
                    .map(|&(number, verdict)| (number | X32_BIT, verdict)),
            );
            let x86 = column(Column::X86);
            vec![
                ArchFilter::new(AUDIT_X86_64, native, &blocks),
                ArchFilter::new(AUDIT_X86, x86.clone(), &[(0, newest(&x86, u32::MAX))]),
            ]
        }
        Architecture::Aarch64 => {
            let native = column(Column::Aarch64);
            let arm = column(Column::Arm);
            let (newest_native, newest_arm) =
                (newest(&native, u32::MAX), newest(&arm, ARM_PRIVATE));
            vec![
                ArchFilter::new(AUDIT_AARCH64, native, &[(0, newest_native)]),
                ArchFilter::new(AUDIT_ARM, arm, &[(0, newest_arm)]),
            ]
        }
    }
}

/// The `AUDIT_ARCH_*` value of an architecture itself.
pub(super) const fn audit(architecture: Architecture) -> u32 {
    match architecture {
        Architecture::X86_64 => AUDIT_X86_64,
        Architecture::Aarch64 => AUDIT_AARCH64,
    }
}

/// The number of a system call; `None` where the architecture itself has no such call.
pub(super) fn number(architecture: Architecture, name: &str) -> Option<u32> {
    let column = match architecture {
        Architecture::X86_64 => Column::X86_64,
        Architecture::Aarch64 => Column::Aarch64,
    };
    let mut lines = TABLE.lines();
    let line = lines.find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').nth(2 + column as usize)?.parse().ok()
}

/// Filters that ask about some calls and allow all others.
fn asking_filters(architecture: Architecture, asked: &[&str]) -> Vec<ArchFilter> {
    let mut calls: BTreeMap<u32, Vec<(u32, Verdict)>> = BTreeMap::new();
    for (name, at) in numbers(architecture) {
        let of_architecture = calls.entry(at.audit).or_default();
        of_architecture.extend(asked.contains(&name).then(|| (at.number, question(name))));
    }
    calls
        .into_iter()
        .map(|(audit, calls)| ArchFilter::allowing(audit, calls))
        .collect()
}

/// How a listener is asked about a call.
fn question(name: &str) -> Verdict {
    match name {
        "prctl" => Verdict::AskToKeepCapabilities,
        "setrlimit" => Verdict::KeepLockLimit,
        "prlimit64" => Verdict::KeepLockLimitOfProcess,
        _ => Verdict::Ask,
    }
}

/// The newest call below `bound`: calls are numbered in the order of their invention.
fn newest(calls: &[(u32, Verdict)], bound: u32) -> u32 {
    let numbers = calls.iter().map(|&(number, _)| number);
    numbers.filter(|&number| number < bound).max().unwrap_or(0)
}

/// Name, rule and number of each call that the table has for a column.
fn lines(column: Column) -> impl Iterator<Item = (&'static str, &'static str, u32)> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(move |line| {
        let mut words = line.split(' ');
        let (name, rule) = (words.next()?, words.next()?);
        let number = words.nth(column as usize)?.parse().ok()?;
        Some((name, rule, number))
    })
}

fn column(
    column: Column,
    capabilities: CapabilitySet,
    asked: &'static [&'static str],
) -> Vec<(u32, Verdict)> {
    let verdict = |name, rule| match verdict(rule, capabilities) {
        Verdict::Allow if asked.contains(&name) => question(name),
        verdict => verdict,
    };
    lines(column)
        .map(|(name, rule, number)| (number, verdict(name, rule)))
        .collect()
}

/// What a rule comes to. Capabilities decide now, arguments when the call is made.
fn verdict(rule: &str, capabilities: CapabilitySet) -> Verdict {
    let mut by_arguments = Verdict::Refuse;
    for condition in rule.split(',') {
        match condition {
            "allow" => return Verdict::Allow,
            "socket" => by_arguments = Verdict::SafeSocketFamily,
            "personality" => by_arguments = Verdict::KnownPersonality,
            "clone" => by_arguments = Verdict::NoNewNamespaces,
            "clone3" => by_arguments = Verdict::Unknown,
            capability => {
                let needed = capability.parse::<Capability>();
                if needed.is_ok_and(|needed| capabilities.contains(needed)) {
                    return Verdict::Allow;
                }
            }
        }
    }
    by_arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words.len(), 7, "{line}");
            for condition in words[1].split(',') {
                assert!(
                    matches!(
                        condition,
                        "allow" | "socket" | "personality" | "clone" | "clone3"
                    ) || condition.parse::<Capability>().is_ok(),
                    "{line}"
                );
            }
            for number in &words[2..] {
                assert!(*number == "-" || number.parse::<u32>().is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn the_table_agrees_with_the_kernel_headers_of_this_machine() {
        #[cfg(target_arch = "x86_64")]
        for (name, number) in [
            ("read", 0),
            ("clone3", 435),
            ("openat2", 437),
            ("mseal", 462),
        ] {
            let line = TABLE
                .lines()
                .find(|line| line.split(' ').next() == Some(name));
            let found = line.and_then(|line| line.split(' ').nth(2));
            assert_eq!(found, Some(number.to_string().as_str()), "{name}");
        }
    }
}
