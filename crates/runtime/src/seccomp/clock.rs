//! The filter of a container with another clock: which system calls its follower is to see. It
//! stands beside the other filter; a call that one of them refuses is refused.

use super::Architecture;
use super::bpf::{
    ALLOW, AND, ARCHITECTURE, ARGUMENT_LOW, EPERM, ERRNO, JUMP_EQUAL, LOAD, NUMBER, RETURN, branch,
    instruction,
};
use super::profile;
use sys::seccomp::Instruction;

const TRACE: u32 = 0x7ff0_0000;
const JUMP_SET: u16 = 0x45;

/// Flag of the calls that wait for or set an instant: it is absolute.
const TIMER_ABSTIME: u32 = 1;

/// A system call that has to do with the clock on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockCall {
    /// `clock_gettime(clock, time)`.
    GetTime,
    /// `gettimeofday(time, zone)`.
    GetTimeOfDay,
    /// `time(seconds)`.
    Time,
    /// One that waits until an instant: the argument that leads to it, and where in that structure
    /// the seconds are.
    Deadline {
        /// Position of the pointer.
        argument: usize,
        /// Bytes before the seconds.
        seconds: usize,
    },
    /// One that sets the clock, which is the machine's: refused.
    Set,
}

/// When the follower is to see a call.
#[derive(Clone, Copy)]
enum When {
    Always,
    /// Its argument is a clock that follows the one on the wall.
    OfWallClock(u32),
    /// Its argument has this bit.
    Flag(u32, u32),
    /// `futex`: it waits until an instant of the clock on the wall.
    Futex,
}

/// `CLOCK_REALTIME`, `_COARSE`, `_ALARM` and `CLOCK_TAI`.
const WALL_CLOCKS: [u32; 4] = [0, 5, 8, 11];

const fn deadline(argument: usize, seconds: usize) -> ClockCall {
    ClockCall::Deadline { argument, seconds }
}

const CALLS: [(&str, When, ClockCall); 13] = [
    ("clock_gettime", When::OfWallClock(0), ClockCall::GetTime),
    ("gettimeofday", When::Always, ClockCall::GetTimeOfDay),
    ("time", When::Always, ClockCall::Time),
    ("futex", When::Futex, deadline(3, 0)),
    ("futex_waitv", When::OfWallClock(4), deadline(3, 0)),
    ("futex_wait", When::OfWallClock(5), deadline(4, 0)),
    (
        "clock_nanosleep",
        When::Flag(1, TIMER_ABSTIME),
        deadline(2, 0),
    ),
    (
        "timer_settime",
        When::Flag(1, TIMER_ABSTIME),
        deadline(2, 16),
    ),
    (
        "timerfd_settime",
        When::Flag(1, TIMER_ABSTIME),
        deadline(2, 16),
    ),
    ("mq_timedsend", When::Always, deadline(4, 0)),
    ("mq_timedreceive", When::Always, deadline(4, 0)),
    ("clock_settime", When::Always, ClockCall::Set),
    ("settimeofday", When::Always, ClockCall::Set),
];

/// The calls with their numbers, as far as an architecture has them.
fn numbered(architecture: Architecture) -> impl Iterator<Item = (u32, When, ClockCall)> {
    CALLS.into_iter().filter_map(move |(name, when, call)| {
        Some((profile::number(architecture, name)?, when, call))
    })
}

/// The calls by their numbers on an architecture.
pub(crate) fn calls(architecture: Architecture) -> Vec<(u32, ClockCall)> {
    let calls = numbered(architecture);
    calls.map(|(number, _, call)| (number, call)).collect()
}

/// The filter. Programs of fewer bits go through it as if it were not there.
pub(crate) fn filter(architecture: Architecture) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE),
        branch(JUMP_EQUAL, profile::audit(architecture), 1, 0),
        instruction(RETURN, ALLOW),
        instruction(LOAD, NUMBER),
    ];
    for (number, when, call) in numbered(architecture) {
        let body = match call {
            ClockCall::Set => vec![instruction(RETURN, ERRNO | EPERM)],
            _ => condition(when),
        };
        let past = u8::try_from(body.len()).expect("a decision is a few instructions");
        program.push(branch(JUMP_EQUAL, number, 0, past));
        program.extend(body);
    }
    program.push(instruction(RETURN, ALLOW));
    program
}

/// Ends with a decision in any case.
fn condition(when: When) -> Vec<Instruction> {
    let load = |argument: u32| instruction(LOAD, ARGUMENT_LOW + 8 * argument);
    let decide = [instruction(RETURN, ALLOW), instruction(RETURN, TRACE)];
    match when {
        When::Always => vec![instruction(RETURN, TRACE)],
        When::OfWallClock(argument) => {
            let compare = |(position, &clock): (usize, &u32)| {
                let left = WALL_CLOCKS.len() - position;
                branch(JUMP_EQUAL, clock, u8::try_from(left).unwrap_or(0), 0)
            };
            let compare = WALL_CLOCKS.iter().enumerate().map(compare);
            std::iter::once(load(argument))
                .chain(compare)
                .chain(decide)
                .collect()
        }
        When::Flag(argument, bit) => {
            let test = [load(argument), branch(JUMP_SET, bit, 1, 0)];
            test.into_iter().chain(decide).collect()
        }
        When::Futex => {
            const CLOCK_REALTIME: u32 = 256;
            const COMMAND: u32 = 0x7f;
            /// Its instant is one of the clock on the wall without being told.
            const LOCK_PI: u32 = 6;
            let test = [
                load(1),
                branch(JUMP_SET, CLOCK_REALTIME, 3, 0),
                instruction(AND, COMMAND),
                branch(JUMP_EQUAL, LOCK_PI, 1, 0),
            ];
            test.into_iter().chain(decide).collect()
        }
    }
}
