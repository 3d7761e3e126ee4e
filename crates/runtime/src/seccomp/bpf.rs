//! From a table of verdicts to a classic BPF program: a binary search over runs of equal verdicts.

use sys::seccomp::Instruction;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is made.
    Allow,
    /// It fails with `EPERM`.
    Refuse,
    /// It fails with `ENOSYS`, as if the kernel were older.
    Unknown,
    /// Made when argument 0 is a socket family that is no known way out of a container.
    SafeSocketFamily,
    /// Made when argument 0 is one of the harmless personalities.
    KnownPersonality,
    /// Made when argument 0 asks for no new namespace.
    NoNewNamespaces,
    /// Whoever listens decides.
    Ask,
    /// Whoever listens decides when argument 0 is `PR_SET_KEEPCAPS`; made otherwise.
    AskToKeepCapabilities,
    /// `setrlimit(2)` for `RLIMIT_LOCKS` succeeds without effect; made otherwise.
    KeepLockLimit,
    /// The same for `prlimit(2)`, if it is to set something.
    KeepLockLimitOfProcess,
}

/// The verdicts for one architecture.
#[derive(Clone, Debug)]
pub(super) struct ArchFilter {
    /// Its `AUDIT_ARCH_*` value.
    audit: u32,
    /// First number of each run, and the verdict up to the next run. The first begins at 0.
    runs: Vec<(u32, Verdict)>,
}

impl ArchFilter {
    /// From verdicts by number; all other numbers are allowed.
    pub(super) fn allowing(audit: u32, mut calls: Vec<(u32, Verdict)>) -> ArchFilter {
        calls.sort_by_key(|&(number, _)| number);
        let mut runs = vec![(0, Verdict::Allow)];
        for &(number, verdict) in &calls {
            runs.extend([(number, verdict), (number + 1, Verdict::Allow)]);
        }
        // Of two that begin at the same number, the later one counts.
        runs.reverse();
        runs.dedup_by_key(|&mut (number, _)| number);
        runs.reverse();
        runs.dedup_by(|later, earlier| later.1 == earlier.1);
        ArchFilter { audit, runs }
    }

    /// From verdicts by number. Numbers that are missing are refused, or, behind the newest number
    /// of the block (first number, newest) that they lie in, unknown.
    pub(super) fn new(
        audit: u32,
        mut calls: Vec<(u32, Verdict)>,
        blocks: &[(u32, u32)],
    ) -> ArchFilter {
        calls.sort_by_key(|&(number, _)| number);
        calls.dedup_by_key(|&mut (number, _)| number);
        let mut starts = Vec::with_capacity(calls.len() * 2);
        let mut next = 0;
        for &(number, verdict) in &calls {
            push_gap(&mut starts, next, number, blocks);
            starts.push((number, verdict));
            next = number + 1;
        }
        push_gap(&mut starts, next, u32::MAX, blocks);
        starts.dedup_by(|later, earlier| later.1 == earlier.1);
        ArchFilter {
            audit,
            runs: starts,
        }
    }
}

/// Adds the runs of the numbers from `from` up to `to`, none of which is in the table.
fn push_gap(starts: &mut Vec<(u32, Verdict)>, from: u32, to: u32, blocks: &[(u32, u32)]) {
    let mut at = from;
    while at < to {
        let block = blocks.iter().rev().find(|(first, _)| *first <= at);
        let newest = block.map_or(0, |&(_, newest)| newest);
        let next_block = blocks
            .iter()
            .map(|&(first, _)| first)
            .find(|&first| first > at);
        let end = next_block.map_or(to, |first| first.min(to));
        if at <= newest {
            starts.push((at, Verdict::Refuse));
            at = end.min(newest + 1);
        } else {
            starts.push((at, Verdict::Unknown));
            at = end;
        }
    }
}

pub(super) const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
pub(super) const AND: u16 = 0x54;
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
pub(super) const ARGUMENT_LOW: u32 = 16;
const ARGUMENT_HIGH: u32 = 20;

pub(super) const ALLOW: u32 = 0x7fff_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
const USER_NOTIFICATION: u32 = 0x7fc0_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The namespaces that `clone(2)` can make: mount, cgroup, uts, ipc, user, pid, net.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// Linux, with short inode numbers or without, and the question which one is set.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// No call, and no error.
const SUCCESS: u32 = ERRNO;
/// Bytes from one argument to the next.
const ARGUMENT_LEN: u32 = 8;
/// `RLIMIT_LOCKS`
const LOCK_LIMIT: u32 = 10;
/// `PR_SET_KEEPCAPS`
const KEEP_CAPABILITIES: u32 = 8;
/// Socket families that are refused: those that are known ways out of a container, and whatever is
/// newer than the last one.
const REFUSED_FAMILIES: [u32; 9] = [12, 19, 20, 23, 25, 34, 37, 38, 40];
const LAST_SOCKET_FAMILY: u32 = 45;

pub(super) fn instruction(code: u16, operand: u32) -> Instruction {
    Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        operand,
    }
}

pub(super) fn branch(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        operand,
    }
}

/// One program for several architectures; a call of any other kills the process.
pub(super) fn compile(filters: &[ArchFilter]) -> Vec<Instruction> {
    let mut program = vec![instruction(LOAD, ARCHITECTURE)];
    for filter in filters {
        let mut body = vec![instruction(LOAD, NUMBER)];
        body.extend(search(&filter.runs));
        program.push(branch(JUMP_EQUAL, filter.audit, 1, 0));
        program.push(jump_over(&body));
        program.extend(body);
    }
    program.push(instruction(RETURN, KILL_PROCESS));
    program
}

fn jump_over(body: &[Instruction]) -> Instruction {
    let len = u32::try_from(body.len()).expect("a program has at most 4,096 instructions");
    instruction(JUMP, len)
}

/// Finds the run that the value in the accumulator lies in.
fn search(runs: &[(u32, Verdict)]) -> Vec<Instruction> {
    match runs {
        [] => verdict(Verdict::Refuse),
        [(_, only)] => verdict(*only),
        _ => {
            let (lower, upper) = runs.split_at(runs.len() / 2);
            let below = search(lower);
            let mut code = match u8::try_from(below.len()) {
                Ok(len) => vec![branch(JUMP_AT_LEAST, upper[0].0, len, 0)],
                // Conditional jumps reach 255 instructions; the plain jump reaches everywhere.
                Err(_) => vec![branch(JUMP_AT_LEAST, upper[0].0, 0, 1), jump_over(&below)],
            };
            code.extend(below);
            code.extend(search(upper));
            code
        }
    }
}

fn verdict(verdict: Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![instruction(RETURN, ALLOW)],
        Verdict::Refuse => vec![instruction(RETURN, ERRNO | EPERM)],
        Verdict::Unknown => vec![instruction(RETURN, ERRNO | ENOSYS)],
        Verdict::Ask => vec![instruction(RETURN, USER_NOTIFICATION)],
        Verdict::AskToKeepCapabilities => vec![
            instruction(LOAD, ARGUMENT_LOW),
            branch(JUMP_EQUAL, KEEP_CAPABILITIES, 0, 1),
            instruction(RETURN, USER_NOTIFICATION),
            instruction(RETURN, ALLOW),
        ],
        Verdict::KeepLockLimit => vec![
            instruction(LOAD, ARGUMENT_LOW),
            branch(JUMP_EQUAL, LOCK_LIMIT, 0, 1),
            instruction(RETURN, SUCCESS),
            instruction(RETURN, ALLOW),
        ],
        Verdict::KeepLockLimitOfProcess => vec![
            instruction(LOAD, ARGUMENT_LOW + ARGUMENT_LEN),
            branch(JUMP_EQUAL, LOCK_LIMIT, 0, 5),
            instruction(LOAD, ARGUMENT_LOW + 2 * ARGUMENT_LEN),
            branch(JUMP_EQUAL, 0, 0, 2),
            instruction(LOAD, ARGUMENT_HIGH + 2 * ARGUMENT_LEN),
            branch(JUMP_EQUAL, 0, 1, 0),
            instruction(RETURN, SUCCESS),
            instruction(RETURN, ALLOW),
        ],
        Verdict::NoNewNamespaces => vec![
            instruction(LOAD, ARGUMENT_LOW),
            instruction(AND, CLONE_NAMESPACES),
            branch(JUMP_EQUAL, 0, 0, 1),
            instruction(RETURN, ALLOW),
            instruction(RETURN, ERRNO | EPERM),
        ],
        Verdict::KnownPersonality => argument_in(&PERSONALITIES),
        Verdict::SafeSocketFamily => {
            let families = 0..=LAST_SOCKET_FAMILY;
            let safe: Vec<u32> = families
                .filter(|family| !REFUSED_FAMILIES.contains(family))
                .collect();
            argument_in(&safe)
        }
    }
}

/// Allows when argument 0, all 64 bits of it, is one of `values`, which are sorted.
fn argument_in(values: &[u32]) -> Vec<Instruction> {
    let mut runs = Vec::new();
    let mut next = Some(0);
    for &value in values {
        if next != Some(value) {
            runs.extend(next.map(|start| (start, Verdict::Refuse)));
        }
        runs.push((value, Verdict::Allow));
        next = value.checked_add(1);
    }
    runs.extend(next.map(|start| (start, Verdict::Refuse)));
    runs.dedup_by(|later, earlier| later.1 == earlier.1);
    let mut code = vec![
        instruction(LOAD, ARGUMENT_HIGH),
        branch(JUMP_EQUAL, 0, 1, 0),
        instruction(RETURN, ERRNO | EPERM),
        instruction(LOAD, ARGUMENT_LOW),
    ];
    code.extend(search(&runs));
    code
}

#[cfg(test)]
mod tests {
    use super::super::{Architecture, compile as compile_named, docker_default};
    use super::*;
    use crate::capability::{Capability, CapabilitySet};
    use proptest::prelude::*;

    const X86_64: u32 = 0xc000_003e;
    const X86: u32 = 0x4000_0003;
    const AARCH64: u32 = 0xc000_00b7;
    const ARM: u32 = 0x4000_0028;
    const X32: u32 = 0x4000_0000;
    const DENIED: u32 = ERRNO | EPERM;
    const NO_SUCH_CALL: u32 = ERRNO | ENOSYS;

    /// What the kernel's interpreter would return.
    fn run(program: &[Instruction], audit: u32, number: u32, argument: u64) -> u32 {
        run_with(program, audit, number, [argument, 0, 0])
    }

    fn run_with(program: &[Instruction], audit: u32, number: u32, arguments: [u64; 3]) -> u32 {
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let step = program[at];
            at += 1;
            match step.code {
                LOAD => {
                    accumulator = match step.operand {
                        NUMBER => number,
                        ARCHITECTURE => audit,
                        other => {
                            let bytes = arguments.map(u64::to_le_bytes).concat();
                            let word = &bytes[(other - ARGUMENT_LOW) as usize..][..4];
                            u32::from_le_bytes(word.try_into().unwrap())
                        }
                    }
                }
                AND => accumulator &= step.operand,
                JUMP => at += step.operand as usize,
                JUMP_EQUAL | JUMP_AT_LEAST => {
                    let holds = match step.code {
                        JUMP_EQUAL => accumulator == step.operand,
                        _ => accumulator >= step.operand,
                    };
                    at += usize::from(if holds {
                        step.jump_true
                    } else {
                        step.jump_false
                    });
                }
                RETURN => return step.operand,
                other => panic!("operation {other}"),
            }
        }
    }

    #[track_caller]
    fn check(capabilities: CapabilitySet, audit: u32, number: u32, argument: u64, expect: u32) {
        let architecture = match audit {
            AARCH64 | ARM => Architecture::Aarch64,
            _ => Architecture::X86_64,
        };
        let program = docker_default(architecture, capabilities);
        // The kernel takes 4,096; every one of them costs time when a container starts.
        assert!(program.len() < 1000, "{} instructions", program.len());
        assert_eq!(
            run(&program, audit, number, argument),
            expect,
            "call {number} of {audit:#x} with {argument:#x}"
        );
    }

    const DEFAULT: CapabilitySet = CapabilitySet::DOCKER_DEFAULT;

    #[test]
    fn usual_calls_are_allowed_on_every_architecture() {
        for (audit, read) in [
            (X86_64, 0),
            (X86_64, X32),
            (X86, 3),
            (AARCH64, 63),
            (ARM, 3),
        ] {
            check(DEFAULT, audit, read, 0, ALLOW);
        }
        check(DEFAULT, ARM, 983_045, 0, ALLOW); // set_tls
        check(DEFAULT, X86_64, X32 | 520, 0, ALLOW); // execve of x32
    }

    #[test]
    fn other_calls_are_refused() {
        check(DEFAULT, X86_64, 165, 0, DENIED); // mount
        check(DEFAULT, X86_64, 250, 0, DENIED); // keyctl
        check(DEFAULT, X86_64, 425, 0, DENIED); // io_uring_setup
        check(DEFAULT, AARCH64, 40, 0, DENIED); // mount
        check(DEFAULT, X86, 21, 0, DENIED); // mount
        check(DEFAULT, X86_64, X32 | 165, 0, DENIED); // mount
    }

    #[test]
    fn calls_newer_than_the_table_do_not_exist() {
        for audit in [X86_64, X86, AARCH64, ARM] {
            check(DEFAULT, audit, 467, 0, NO_SUCH_CALL);
            check(DEFAULT, audit, 900, 0, NO_SUCH_CALL);
        }
        check(DEFAULT, X86_64, u32::MAX, 0, NO_SUCH_CALL);
        check(DEFAULT, X86_64, X32 | 900, 0, NO_SUCH_CALL);
        check(DEFAULT, X86_64, X32 - 1, 0, NO_SUCH_CALL);
    }

    #[test]
    fn clone3_does_not_exist_and_clone_makes_no_namespace() {
        check(DEFAULT, X86_64, 435, 0, NO_SUCH_CALL);
        check(DEFAULT, X86_64, 56, 0x11, ALLOW);
        check(DEFAULT, X86_64, 56, 0x1000_0011, DENIED); // CLONE_NEWUSER
        check(DEFAULT, X86_64, 56, 0x0002_0011, DENIED); // CLONE_NEWNS
        let admin = DEFAULT.with(Capability::SYS_ADMIN);
        check(admin, X86_64, 435, 0, ALLOW);
        check(admin, X86_64, 56, 0x1000_0011, ALLOW);
        check(admin, X86_64, 165, 0, ALLOW);
    }

    #[test]
    fn arguments_decide_socket_and_personality() {
        check(DEFAULT, X86_64, 41, 1, ALLOW); // AF_UNIX
        check(DEFAULT, X86_64, 41, 10, ALLOW); // AF_INET6
        check(DEFAULT, X86_64, 41, 16, ALLOW); // AF_NETLINK
        check(DEFAULT, X86_64, 41, 45, ALLOW); // AF_MCTP
        check(DEFAULT, X86_64, 41, 40, DENIED); // AF_VSOCK
        check(DEFAULT, X86_64, 41, 38, DENIED); // AF_ALG
        check(DEFAULT, X86_64, 41, 12, DENIED);
        check(DEFAULT, X86_64, 41, 46, DENIED);
        check(DEFAULT, X86_64, 41, 0xffff_ffff, DENIED);
        check(DEFAULT, X86_64, 41, 1 << 32 | 1, DENIED);
        check(DEFAULT, X86_64, 135, 0xffff_ffff, ALLOW);
        check(DEFAULT, X86_64, 135, 0x2_0008, ALLOW);
        check(DEFAULT, X86_64, 135, 0x4_0000, DENIED);
    }

    #[test]
    fn a_listener_is_asked_about_some_calls() {
        let program = compile_named(Architecture::X86_64, None, &["prlimit64"]);
        for (arguments, expect) in [
            ([0, 10, 1 << 40], SUCCESS), // RLIMIT_LOCKS
            ([0, 10, 16], SUCCESS),
            ([0, 10, 0], ALLOW),
            ([10, 7, 16], ALLOW),
        ] {
            let found = run_with(&program, X86_64, 302, arguments);
            assert_eq!(found, expect, "prlimit64 {arguments:?}");
        }
        for docker in [Some(DEFAULT), None] {
            let other = if docker.is_some() { DENIED } else { ALLOW };
            let program = compile_named(
                Architecture::X86_64,
                docker,
                &["chown", "prctl", "setrlimit"],
            );
            for (audit, number, argument, expect) in [
                (X86_64, 92, 0, USER_NOTIFICATION),
                (X86_64, X32 | 92, 0, USER_NOTIFICATION),
                (X86, 182, 0, USER_NOTIFICATION),
                (X86_64, 157, 8, USER_NOTIFICATION), // PR_SET_KEEPCAPS
                (X86_64, 157, 1, ALLOW),
                (X86_64, 160, 10, SUCCESS), // RLIMIT_LOCKS
                (X86_64, 160, 7, ALLOW),
                (X86_64, 0, 0, ALLOW),
                (X86_64, 165, 0, other), // mount
                (X86, 21, 0, other),
            ] {
                let found = run(&program, audit, number, argument);
                assert_eq!(found, expect, "call {number} of {audit:#x}, {docker:?}");
            }
        }
    }

    #[test]
    fn foreign_architectures_die() {
        check(DEFAULT, 0x8000_0016, 3, 0, KILL_PROCESS); // s390x
    }

    proptest! {
        #[test]
        fn the_program_says_what_the_table_says(
            calls in proptest::collection::btree_map(0u32..600, any::<bool>(), 1..200),
            number in 0u32..700,
        ) {
            let newest = *calls.keys().next_back().unwrap();
            let verdict = |allow| if allow { Verdict::Allow } else { Verdict::Refuse };
            let table = calls.iter().map(|(&number, &allow)| (number, verdict(allow))).collect();
            let program = compile(&[ArchFilter::new(7, table, &[(0, newest)])]);
            let expect = match calls.get(&number) {
                Some(true) => ALLOW,
                Some(false) => DENIED,
                None if number > newest => NO_SUCH_CALL,
                None => DENIED,
            };
            prop_assert_eq!(run(&program, 7, number, 0), expect);
        }
    }
}
