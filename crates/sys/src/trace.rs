//! Following other processes with `ptrace(2)`: where they stop, their registers and their memory.
//!
//! Everything here is about *threads* by their numbers in the caller's process namespace, and may
//! be called only by the process that follows them. A thread that is killed while it is stopped
//! makes the calls about it fail with `ESRCH`; its end is then told by [`next`].

use std::io;

mod registers;

pub use registers::Registers;

/// Follows a process and all threads and processes that it starts from here on, without stopping
/// it. They are killed when the caller ends. `CAP_SYS_PTRACE` in its user namespace also lets
/// programs with more rights than their callers keep those rights.
///
/// # Errors
/// The errno of `ptrace(2)`: `EPERM` when the kernel or a security module refuses; `ENOSYS` on
/// processors whose registers are not known here.
pub fn seize(process: i32) -> io::Result<()> {
    if !registers::KNOWN {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    let options = libc::PTRACE_O_EXITKILL
        | libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACESECCOMP;
    // SAFETY: seizing takes no address; it changes nothing in this process's memory.
    done(unsafe { libc::ptrace(libc::PTRACE_SEIZE, process, 0usize, i64::from(options)) })
}

/// What happened to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It makes a system call that a filter left to the follower. Nothing of it was done yet.
    Call,
    /// The system call has ended after which it was to stop.
    CallEnded,
    /// It became another program: the first instruction of that is next.
    Exec,
    /// It is about to receive this signal.
    Signal(i32),
    /// A signal stopped its whole process, which wants to stay so until it is continued.
    Stopped,
    /// It was started, it started another one, or its process goes on after [`Event::Stopped`].
    Other,
    /// It has ended. There is nothing to resume.
    Ended,
}

/// Waits until something happens to a followed thread, which then waits for [`resume`]; `None`
/// when none is left.
///
/// # Errors
/// The errno of `wait4(2)`.
pub fn next() -> io::Result<Option<(i32, Event)>> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes the status, which is live.
        let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if thread > 0 {
            return Ok(Some((thread, event(status))));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(None),
            _ => return Err(error),
        }
    }
}

fn event(status: i32) -> Event {
    if !libc::WIFSTOPPED(status) {
        return Event::Ended;
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        libc::PTRACE_EVENT_SECCOMP => Event::Call,
        libc::PTRACE_EVENT_EXEC => Event::Exec,
        libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => Event::Stopped,
        0 if signal == libc::SIGTRAP | 0x80 => Event::CallEnded,
        0 => Event::Signal(signal),
        _ => Event::Other,
    }
}

/// How a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Until the next event.
    On,
    /// The same, receiving a signal.
    With(i32),
    /// Until the system call ends that it is in.
    ToCallEnd,
    /// Not at all, but told when its process is continued.
    Listen,
}

/// Lets a thread that had an [`Event`] go on.
///
/// # Errors
/// The errno of `ptrace(2)`: `ESRCH` when it was killed meanwhile.
pub fn resume(thread: i32, how: Resume) -> io::Result<()> {
    let (request, signal) = match how {
        Resume::On => (libc::PTRACE_CONT, 0),
        Resume::With(signal) => (libc::PTRACE_CONT, signal),
        Resume::ToCallEnd => (libc::PTRACE_SYSCALL, 0),
        Resume::Listen => (libc::PTRACE_LISTEN, 0),
    };
    // SAFETY: these requests take no address.
    done(unsafe { libc::ptrace(request, thread, 0usize, i64::from(signal)) })
}

/// Fills `bytes` from the memory of a thread.
///
/// # Errors
/// The errno of `process_vm_readv(2)`; `EFAULT` when not all of it is there.
pub fn read_memory(thread: i32, address: u64, bytes: &mut [u8]) -> io::Result<()> {
    let count = crate::process::read_memory(thread.cast_unsigned(), address, bytes)?;
    whole(count, bytes.len())
}

/// Writes `bytes` into the memory of a thread, where that itself could write.
///
/// # Errors
/// The errno of `process_vm_writev(2)`; `EFAULT` when not all of it is there.
pub fn write_memory(thread: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let ours = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let theirs = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address as usize),
        iov_len: bytes.len(),
    };
    // SAFETY: the first vector describes a live slice, which is only read; the second one is about
    // another process, where the kernel looks after addresses.
    let count =
        unsafe { libc::process_vm_writev(thread, &raw const ours, 1, &raw const theirs, 1, 0) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    whole(count, bytes.len())
}

fn whole(count: usize, wanted: usize) -> io::Result<()> {
    match count == wanted {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EFAULT)),
    }
}

fn done(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
