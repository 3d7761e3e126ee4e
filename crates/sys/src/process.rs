//! Processes: starting one in new namespaces, becoming another program, waiting, limits.
//!
//! [`clone_process`] returns twice, as `fork` does, and therefore works only in a process with one
//! thread: the re-executed helper of crate `runtime`.

use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use rustix::fs::Mode;
pub use rustix::process::{Pid, kill_process_group};
pub use rustix::process::{Resource, Rlimit, Signal};
pub use rustix::process::{chroot, fchdir, pidfd_open};
pub use rustix::process::{getegid, geteuid, getgid, getpid, getppid, getuid};
pub use rustix::process::{getrlimit, setrlimit, setsid, umask};
pub use rustix::system::sethostname;
use rustix::thread::CpuSet;

/// Lets the calling thread, and those it starts from here on, use the first of its processors
/// only.
///
/// # Errors
/// When the kernel refuses.
pub fn one_processor() -> io::Result<()> {
    let before = rustix::thread::sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    if let Some(first) = (0..CpuSet::MAX_CPU).find(|&number| before.is_set(number)) {
        one.set(first);
        rustix::thread::sched_setaffinity(None, &one)?;
    }
    Ok(())
}

/// Makes the calling thread, and those it starts from here on, yield to others: `increment` is
/// added to its nice value. Only that of the thread changes, as it does for every thread on Linux.
///
/// # Errors
/// When the kernel refuses.
pub fn nice(increment: i32) -> io::Result<()> {
    rustix::process::nice(increment)?;
    Ok(())
}

/// A limit of another process, by the number of one of its threads; with `new`, it is set, and what
/// it was before is returned.
///
/// # Errors
/// The errno of `prlimit(2)`: `ESRCH` when there is no such process.
pub fn limit_of(thread: u32, resource: Resource, new: Option<Rlimit>) -> io::Result<Rlimit> {
    let raw = |bound: Option<u64>| bound.unwrap_or(libc::RLIM_INFINITY);
    let new = new.map(|limit| libc::rlimit64 {
        rlim_cur: raw(limit.current),
        rlim_max: raw(limit.maximum),
    });
    let mut old = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both pointers lead to live structures of the type that the call takes, or are null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            thread,
            resource as libc::c_int,
            new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
            &raw mut old,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let bound = |raw: u64| (raw != libc::RLIM_INFINITY).then_some(raw);
    Ok(Rlimit {
        current: bound(old.rlim_cur),
        maximum: bound(old.rlim_max),
    })
}

/// Reads memory of another process, by the number of one of its threads. Returns how many bytes
/// there were.
///
/// # Errors
/// The errno of `process_vm_readv(2)`: `EFAULT` when not even the first byte is there.
pub fn read_memory(thread: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address as usize),
        iov_len: buffer.len(),
    };
    // SAFETY: the kernel writes at most the length of the live buffer into it; the other address is
    // never followed in this process.
    let count = unsafe {
        libc::process_vm_readv(
            thread.cast_signed(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Namespaces that a new process gets for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// Mounts.
    pub mount: bool,
    /// Process numbers.
    pub pid: bool,
    /// System V IPC and POSIX message queues.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// Network devices.
    pub network: bool,
    /// The view of control groups.
    pub cgroup: bool,
}

impl Namespaces {
    fn bits(self) -> u64 {
        [
            (self.mount, libc::CLONE_NEWNS),
            (self.pid, libc::CLONE_NEWPID),
            (self.ipc, libc::CLONE_NEWIPC),
            (self.uts, libc::CLONE_NEWUTS),
            (self.network, libc::CLONE_NEWNET),
            (self.cgroup, libc::CLONE_NEWCGROUP),
        ]
        .iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |bits, (_, flag)| bits | u64::from(flag.cast_unsigned()))
    }
}

/// Which of the two processes this is after [`clone_process`].
#[derive(Debug)]
pub enum Cloned {
    /// The one that called.
    Parent {
        /// Number of the new process in the caller's namespace.
        pid: i32,
        /// Refers to the new process.
        pidfd: OwnedFd,
    },
    /// The new one.
    Child,
}

/// `struct clone_args` of `clone3(2)`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Copies this process into new namespaces, and into the version 2 control group whose directory
/// is given.
///
/// # Errors
/// `EBUSY` when this process has more than one thread; the errno of `clone3(2)` otherwise.
pub fn clone_process(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    require_single_thread()?;
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: namespaces.bits() | u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: the arguments are live and have the size passed; no stack or TLS is given, so the
    // child goes on with a copy of this one's memory. This process has a single thread (checked
    // above, and nobody else could start one), so no lock is held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => Ok(Cloned::Parent {
            pid: i32::try_from(pid).map_err(io::Error::other)?,
            // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor, which nothing else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Copies this process through the C library, which then knows the copy: unlike that of
/// [`clone_process`], it may start threads and go on for long.
///
/// # Errors
/// `EBUSY` when this process has more than one thread; the errno of `fork(2)` or `pidfd_open(2)`
/// otherwise.
pub fn fork() -> io::Result<Cloned> {
    require_single_thread()?;
    // SAFETY: this process has a single thread (checked above, and nobody else could start one),
    // so no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        0 => Ok(Cloned::Child),
        -1 => Err(io::Error::last_os_error()),
        pid => {
            let process = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
            let pidfd = pidfd_open(process, rustix::process::PidfdFlags::empty())?;
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// Sets a variable of this process's environment.
///
/// # Errors
/// `EBUSY` when this process has more than one thread.
pub fn set_variable(name: &str, value: &str) -> io::Result<()> {
    require_single_thread()?;
    // SAFETY: there is no other thread that could read the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

fn require_single_thread() -> io::Result<()> {
    // The directory has a link of its own, one from its parent, and one from every thread.
    let links = rustix::fs::stat("/proc/self/task")?.st_nlink;
    if links == 3 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }
}

/// Places the child in `CloneArgs::cgroup`; not in `libc` for every target.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It exited with this code (0 to 255).
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        // `EXITED` reports nothing but these two.
        (None, None) => Exit::Code(255),
    }
}

/// Waits for the end of the child behind `pidfd` and reaps it.
///
/// # Errors
/// The errno of `waitid(2)`.
pub fn wait(pidfd: impl AsFd) -> io::Result<Exit> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(exit_of(&status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reaps any child that has ended; `None` when none has, or there is no child.
///
/// # Errors
/// The errno of `wait(2)`.
pub fn reap_any() -> io::Result<Option<(i32, Exit)>> {
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let exit = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    // Stopped or continued.
                    (None, None) => continue,
                };
                return Ok(Some((pid.as_raw_nonzero().get(), exit)));
            }
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends a signal to the process behind `pidfd`.
///
/// # Errors
/// `EINVAL` for a number that is no standard signal, `ESRCH` when it has ended; the errno of
/// `pidfd_send_signal(2)` otherwise.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let signal =
        Signal::from_named_raw(signal).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(rustix::process::pidfd_send_signal(pidfd, signal)?)
}

/// Becomes another program. Returns only when that failed.
pub fn exec(program: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let strings = strings.iter().map(|string| string.as_ptr());
        strings.chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: all strings are NUL-terminated and outlive the call, and both arrays end with a null
    // pointer.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process at once, without running exit handlers or flushing streams: what a copy of a
/// process must do, since those belong to the original.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any value and does not return.
    unsafe { libc::_exit(code) }
}

/// Has the kernel kill this process when its parent ends. Cleared by `exec` of a setuid program.
///
/// # Errors
/// The errno of `prctl(2)`.
pub fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(
        Signal::KILL,
    ))?)
}

/// Closes every descriptor from `first` on as soon as this process becomes another program.
///
/// # Errors
/// The errno of `close_range(2)`; `ENOSYS` before Linux 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: descriptors only get a flag; none is closed under an owner.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes `fd` this process's standard stream `stream` (0, 1 or 2).
///
/// # Errors
/// The errno of `dup2(2)`; `EINVAL` for other numbers.
pub fn replace_stream(fd: impl AsFd, stream: i32) -> io::Result<()> {
    match stream {
        0 => rustix::stdio::dup2_stdin(fd)?,
        1 => rustix::stdio::dup2_stdout(fd)?,
        2 => rustix::stdio::dup2_stderr(fd)?,
        _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
    Ok(())
}

/// Leaves namespaces for new ones of this process.
///
/// # Errors
/// The errno of `unshare(2)`; `EBUSY` when this process has more than one thread.
pub fn unshare(namespaces: Namespaces, user: bool) -> io::Result<()> {
    require_single_thread()?;
    let mut bits = namespaces.bits();
    if user {
        bits |= u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    }
    let bits = libc::c_int::try_from(bits).map_err(io::Error::other)?;
    // SAFETY: no flag shares memory or descriptors; namespaces are not memory of this process.
    let result = unsafe { libc::unshare(bits) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
