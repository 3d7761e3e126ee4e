//! Another clock on the wall for everything in a container: a process that follows all of its
//! threads, and answers in the kernel's place when they ask for the time.
//!
//! ```text
//! container ── clock_gettime ──► filter (see `seccomp::clock`) ──stop──► follower: machine's + ahead
//!           ── wait until T ───►        "        ──stop──► follower: T − ahead ──► kernel
//! ```
//!
//! The kernel has one such clock for all: time namespaces move the others. Programs read it without a
//! system call, from pages of the vDSO, unless there is none: the follower takes the vDSO out of
//! what a program is told when it starts, so libraries and static programs ask the kernel.
//!
//! Not moved: the times that the kernel gives to files, and programs of fewer bits than the
//! machine's. A program in the container cannot follow another one with `ptrace(2)` meanwhile.

use crate::seccomp::Architecture;
use crate::seccomp::clock::{self, ClockCall};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use sys::process::{Cloned, Namespaces};
use sys::trace::{self, Event, Registers, Resume};

const EFAULT: i64 = 14;
const ENOSYS: i64 = 38;

/// Instants from here on (2001) are of the clock on the wall; the other clocks count from when the
/// machine started.
const WALL: i64 = 1_000_000_000;

/// What is below a stack pointer belongs to the function that runs, on x86-64: so many bytes.
const RED_ZONE: u64 = 128;

/// The process that follows a container.
#[derive(Debug)]
pub(crate) struct Follower {
    process: OwnedFd,
}

impl Follower {
    /// Splits off a process that follows `pid` and all that it starts from here on.
    ///
    /// # Errors
    /// When the kernel does not let it.
    pub(crate) fn start(pid: i32, ahead: u32) -> io::Result<Follower> {
        let (mut ours, mut theirs) = UnixStream::pair()?;
        match sys::process::clone_process(Namespaces::default(), None)? {
            Cloned::Child => {
                drop(ours);
                let seized = sys::process::die_with_parent().and_then(|()| trace::seize(pid));
                let errno = seized
                    .err()
                    .map_or(0, |error| error.raw_os_error().unwrap_or(-1));
                // The supervisor waits for it, or has gone.
                theirs.write_all(&errno.to_le_bytes()).ok();
                drop(theirs);
                let followed = match errno {
                    0 => Follow::new(ahead).run(),
                    _ => Ok(()),
                };
                sys::process::exit_now(i32::from(followed.is_err()))
            }
            Cloned::Parent { pidfd, .. } => {
                drop(theirs);
                let mut errno = [0; 4];
                let answer = ours.read_exact(&mut errno);
                let follower = Follower { process: pidfd };
                match (answer, i32::from_le_bytes(errno)) {
                    (Ok(()), 0) => Ok(follower),
                    (answer, errno) => {
                        follower.wait()?;
                        answer?;
                        Err(io::Error::from_raw_os_error(errno))
                    }
                }
            }
        }
    }

    /// Waits until nobody is left who could be followed.
    pub(crate) fn wait(self) -> io::Result<()> {
        sys::process::wait(self.process).map(drop)
    }
}

/// The follower's side.
struct Follow {
    ahead: i64,
    /// The calls that stop here, by number.
    calls: Vec<(u32, ClockCall)>,
    /// Threads that wait until an instant: the argument that led to it, and what it was.
    waiting: HashMap<i32, (usize, u64)>,
}

impl Follow {
    fn new(ahead: u32) -> Follow {
        Follow {
            ahead: ahead.into(),
            calls: Architecture::native().map_or_else(Vec::new, clock::calls),
            waiting: HashMap::new(),
        }
    }

    /// Follows until nobody is left. On errors the container is killed with this process.
    fn run(&mut self) -> io::Result<()> {
        while let Some((thread, event)) = trace::next()? {
            let how = match event {
                Event::Ended => {
                    self.waiting.remove(&thread);
                    continue;
                }
                Event::Exec => {
                    // What it was before waited for nothing.
                    self.waiting.remove(&thread);
                    alive(hide_vdso(thread))?;
                    Resume::On
                }
                Event::Call => alive(self.call(thread))?.unwrap_or(Resume::On),
                Event::CallEnded => {
                    alive(self.call_ended(thread))?;
                    Resume::On
                }
                Event::Signal(signal) => Resume::With(signal),
                Event::Stopped => Resume::Listen,
                Event::Other => Resume::On,
            };
            alive(trace::resume(thread, how))?;
        }
        Ok(())
    }

    /// A thread makes one of the calls of the filter.
    fn call(&mut self, thread: i32) -> io::Result<Resume> {
        let Some(registers) = Registers::of(thread)? else {
            return Ok(Resume::On);
        };
        let number = u32::try_from(registers.call()).ok();
        let mut calls = self.calls.iter();
        let call = calls.find(|(known, _)| Some(*known) == number);
        let result = match call.map(|(_, call)| *call) {
            Some(ClockCall::Deadline { argument, seconds }) => {
                return self.wait_until(thread, registers, argument, seconds);
            }
            Some(ClockCall::GetTime) => {
                // The kernel reads 32 bits.
                let number = (registers.argument(0) as u32).cast_signed();
                let (seconds, nanoseconds) = self.now(number)?;
                put(thread, registers.argument(1), [seconds, nanoseconds])
            }
            Some(ClockCall::GetTimeOfDay) => {
                let (seconds, nanoseconds) = self.now(0)?;
                // The zone, which is that of the kernel and has been unused for long.
                put_unless_null(thread, registers.argument(0), [seconds, nanoseconds / 1000])
                    .and(put_unless_null(thread, registers.argument(1), [0]))
            }
            Some(ClockCall::Time) => {
                let (seconds, _) = self.now(0)?;
                put_unless_null(thread, registers.argument(0), [seconds]).and(Ok(seconds))
            }
            // Another filter, of the container's own: nobody follows it, as far as it knows.
            Some(ClockCall::Set) | None => Err(ENOSYS),
        };
        registers.answer(thread, result.unwrap_or_else(|errno| -errno))?;
        Ok(Resume::On)
    }

    /// Time of the clock with this number, ahead.
    fn now(&self, clock: i32) -> io::Result<(i64, i64)> {
        let (seconds, nanoseconds) = sys::clock::read(clock)?;
        Ok((seconds + self.ahead, nanoseconds))
    }

    /// A thread waits until an instant, or sets a timer to one. The instant belongs to the program,
    /// which may share it among threads: the kernel is shown a copy, on the thread's stack.
    fn wait_until(
        &mut self,
        thread: i32,
        mut registers: Registers,
        argument: usize,
        seconds: usize,
    ) -> io::Result<Resume> {
        let address = registers.argument(argument);
        let mut bytes = [0; 32];
        let instant = &mut bytes[..seconds + 16];
        if address == 0 || trace::read_memory(thread, address, instant).is_err() {
            // It waits for ever, or the kernel will find fault with it.
            return Ok(Resume::On);
        }
        let (before, after) = instant.split_at_mut(seconds);
        let Some((number, _)) = after.split_first_chunk_mut::<8>() else {
            return Ok(Resume::On);
        };
        let wanted = i64::from_ne_bytes(*number);
        if wanted < WALL {
            return Ok(Resume::On);
        }
        *number = (wanted - self.ahead).to_ne_bytes();
        let len = (before.len() + 16) as u64;
        let copy = registers.stack().wrapping_sub(RED_ZONE + len) & !15;
        if trace::write_memory(thread, copy, instant).is_ok() {
            *registers.argument_mut(argument) = copy;
            registers.set(thread)?;
            self.waiting.insert(thread, (argument, address));
        } else {
            // A stack at its very end.
            trace::write_memory(thread, address, instant)?;
        }
        Ok(Resume::ToCallEnd)
    }

    /// Programs rely on a call leaving its arguments as they are; one that was interrupted is made
    /// once more with them.
    fn call_ended(&mut self, thread: i32) -> io::Result<()> {
        if let Some((argument, address)) = self.waiting.remove(&thread)
            && let Some(mut registers) = Registers::of(thread)?
        {
            *registers.argument_mut(argument) = address;
            registers.set(thread)?;
        }
        Ok(())
    }
}

/// Nothing, when the thread was killed meanwhile: its end comes next.
fn alive<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(sys::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes numbers into the memory of a thread; the result of a call.
fn put<const N: usize>(thread: i32, address: u64, numbers: [i64; N]) -> Result<i64, i64> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
    let written = trace::write_memory(thread, address, &bytes);
    written.map(|()| 0).map_err(|_| EFAULT)
}

fn put_unless_null<const N: usize>(
    thread: i32,
    address: u64,
    numbers: [i64; N],
) -> Result<i64, i64> {
    match address {
        0 => Ok(0),
        _ => put(thread, address, numbers),
    }
}

/// Takes the vDSO out of what the kernel tells a program that is about to start.
fn hide_vdso(thread: i32) -> io::Result<()> {
    const END: u64 = 0;
    const IGNORE: u64 = 1;
    const VDSO: u64 = 33;
    let Some(registers) = Registers::of(thread)? else {
        return Ok(());
    };
    let mut stack = Stack::at(thread, registers.stack());
    let arguments = stack.next()?;
    for _ in 0..=arguments {
        stack.next()?;
    }
    // The environment, up to its end.
    while stack.next()? != 0 {}
    loop {
        let place = stack.place;
        let (kind, _value) = (stack.next()?, stack.next()?);
        match kind {
            END => return Ok(()),
            VDSO => return trace::write_memory(thread, place, &IGNORE.to_ne_bytes()),
            _ => {}
        }
    }
}

/// The words on a thread's stack, upwards.
struct Stack {
    thread: i32,
    place: u64,
    /// Words that follow, read page by page: the next one may not be there.
    words: std::vec::IntoIter<u64>,
}

impl Stack {
    const PAGE: u64 = 4096;

    fn at(thread: i32, place: u64) -> Stack {
        Stack {
            thread,
            place,
            words: Vec::new().into_iter(),
        }
    }

    fn next(&mut self) -> io::Result<u64> {
        loop {
            if let Some(word) = self.words.next() {
                self.place += 8;
                return Ok(word);
            }
            let rest = Stack::PAGE - self.place % Stack::PAGE;
            let mut bytes = vec![0; usize::try_from(rest).map_err(io::Error::other)?];
            trace::read_memory(self.thread, self.place, &mut bytes)?;
            let words = bytes.as_chunks().0.iter();
            let words: Vec<u64> = words.map(|chunk| u64::from_ne_bytes(*chunk)).collect();
            self.words = words.into_iter();
        }
    }
}
