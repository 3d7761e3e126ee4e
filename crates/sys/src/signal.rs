//! Signals of a process: default dispositions, blocking, and reading them from a descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The kernel's `struct sigaction`, all zeros: the default disposition.
#[repr(C)]
struct DefaultAction([u64; 4]);

/// Gives every signal its default disposition and unblocks all, as a new program expects.
///
/// An ignored signal stays ignored across `exec`: Rust programs ignore `SIGPIPE`, and programs
/// started by `posix_spawn` two signals of the C library, which its own `signal` refuses to touch.
pub fn reset() {
    let default = DefaultAction([0; 4]);
    for signal in 1..=64 {
        // SAFETY: the action has at least the size of the kernel's structure on every
        // architecture, is only read, and runs no code of ours. `KILL` and `STOP` are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                std::ptr::null::<DefaultAction>(),
                size_of::<u64>(),
            )
        };
    }
    set_mask(libc::SIG_SETMASK, &[]);
}

/// Has the kernel reap this process's children by itself; they cannot be waited for then.
pub fn ignore_children() {
    // SAFETY: ignoring runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Blocks the signals in this thread and those it starts.
pub fn block(signals: &[i32]) {
    set_mask(libc::SIG_BLOCK, signals);
}

/// Blocks every signal in this thread and those it starts.
pub fn block_all() {
    let all: Vec<i32> = (1..=libc::SIGRTMAX()).collect();
    set_mask(libc::SIG_BLOCK, &all);
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the whole set; `sigaddset` refuses bad numbers.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

fn set_mask(how: libc::c_int, signals: &[i32]) {
    let set = signal_set(signals);
    // SAFETY: the set is live and initialised; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) };
}

pub use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};

/// The signals that a program in the foreground passes on to the one it stands for: what people
/// and other programs send on purpose. `SIGCHLD` and the like stay with their receiver.
pub const FORWARDED: [libc::c_int; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCONT,
];

/// A descriptor that signals are read from instead of being delivered.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks `signals` in this thread (and in those it starts later) and opens a descriptor that
    /// reports them. Call it before other threads exist, or they take the signals.
    ///
    /// # Errors
    /// The errno of `signalfd(2)`.
    pub fn new(signals: &[i32]) -> io::Result<SignalFd> {
        block(signals);
        let set = signal_set(signals);
        // SAFETY: the set is live; a new descriptor is asked for.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor and nothing else owns it.
        Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for the next signal and returns its number.
    ///
    /// # Errors
    /// The errno of `read(2)`.
    pub fn read(&self) -> io::Result<i32> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        loop {
            // SAFETY: the buffer has `size` bytes.
            let count = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
            if count == size.cast_signed() {
                // SAFETY: the kernel filled it, and all bit patterns of its integers are valid.
                let number = unsafe { info.assume_init() }.ssi_signo;
                return Ok(number.cast_signed());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
