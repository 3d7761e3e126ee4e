//! Signals of a process: default dispositions, blocking, and reading them from a descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Gives every signal its default disposition and unblocks all, as a new program expects. (Rust
/// programs ignore `SIGPIPE`, and an ignored signal stays ignored across `exec`.)
pub fn reset() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default disposition runs no code of ours. Signals that cannot be changed
        // are refused, which is what is wanted.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_mask(libc::SIG_SETMASK, &[]);
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
