//! Installing a system call filter. Crate `runtime` writes the programs.
//!
//! A filter may also leave the decision to another thread or process, which listens: containers in
//! a user namespace of one id have such a filter, and tests make system calls fail with one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of a classic BPF program, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// Filters every further system call of this thread and its children, for good.
///
/// # Errors
/// The errno of `seccomp(2)`: `EACCES` without `CAP_SYS_ADMIN` or no-new-privileges, `EINVAL` for
/// a malformed program or one of more than 4,096 instructions.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    set_filter(program, 0).map(drop)
}

/// As [`install`], and hands out the listener to which the program's `SECCOMP_RET_USER_NOTIF`
/// leads. Whoever makes such a call waits for the listener's answer.
///
/// # Errors
/// As [`install`]; `EBUSY` when an earlier filter of this thread has a listener already.
pub fn listen(program: &[Instruction]) -> io::Result<Listener> {
    let descriptor = set_filter(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    let descriptor =
        i32::try_from(descriptor).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: with this flag the kernel returns a new descriptor, which nobody else owns.
    Ok(Listener(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

fn set_filter(program: &[Instruction], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let len =
        u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `Instruction` has the layout of `struct sock_filter`, the pointer and length describe
    // the live slice, and the kernel copies it without writing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    };
    if result >= 0 {
        Ok(result)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Decides on system calls that others make.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A system call that waits for a decision.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    id: u64,
    /// The thread that makes it.
    pub thread: u32,
    /// For which architecture it is made: an `AUDIT_ARCH_*` value.
    pub architecture: u32,
    /// Which call it is, on that architecture.
    pub number: i32,
    /// Its arguments; pointers are addresses of that thread's memory.
    pub arguments: [u64; 6],
}

/// A decision on a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel makes it.
    Through,
    /// It is not made, and fails with this errno.
    Fail(i32),
    /// It is not made, and returns this.
    Return(i64),
}

impl From<OwnedFd> for Listener {
    /// Takes a listener over that another process has sent.
    fn from(descriptor: OwnedFd) -> Listener {
        Listener(descriptor)
    }
}

impl AsFd for Listener {
    /// Can be read when a call waits, or when nobody is left who could make one.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`
const SYNC_WAKE_UP: libc::c_ulong = 1;

impl Listener {
    /// Has whoever asks and whoever listens take turns on one processor, which is quicker if the
    /// listener does nothing but wait for calls. Nothing happens before Linux 6.6.
    pub fn take_turns(&self) {
        let set_flags = libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS;
        // SAFETY: the call takes a number and reads no memory.
        unsafe { libc::ioctl(self.0.as_raw_fd(), set_flags, SYNC_WAKE_UP) };
    }

    /// Whether the call still waits: what was read of its thread's memory was that thread's.
    pub fn waits(&self, call: &Call) -> bool {
        let id = call.id;
        // SAFETY: the kernel reads the number that the live pointer leads to.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
                &raw const id,
            )
        };
        result == 0
    }

    /// Waits for the next call; `None` when nobody is left who could make one.
    ///
    /// # Errors
    /// The errno of `poll(2)` or `ioctl(2)`.
    pub fn next(&self) -> io::Result<Option<Call>> {
        loop {
            let mut polled = libc::pollfd {
                fd: self.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: the pointer and the count describe one live structure.
            let ready = unsafe { libc::poll(&raw mut polled, 1, -1) };
            let asked = if ready < 0 {
                Err(io::Error::last_os_error())
            } else if polled.revents & libc::POLLIN == 0 {
                return Ok(None);
            } else {
                self.receive().map(Some)
            };
            match asked {
                // Whoever asked was killed meanwhile, or a signal came.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
                other => return other,
            }
        }
    }

    fn receive(&self) -> io::Result<Call> {
        // SAFETY: all zeros is a value of this structure of integers, and what the call wants.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        let descriptor = self.0.as_raw_fd();
        // SAFETY: the kernel fills the structure that the live pointer leads to.
        let result =
            unsafe { libc::ioctl(descriptor, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Call {
            id: asked.id,
            thread: asked.pid,
            architecture: asked.data.arch,
            number: asked.data.nr,
            arguments: asked.data.args,
        })
    }

    /// Decides.
    ///
    /// # Errors
    /// The errno of `ioctl(2)`: `ENOENT` when whoever asked was killed meanwhile.
    pub fn answer(&self, call: &Call, answer: Answer) -> io::Result<()> {
        let (value, error, flags) = match answer {
            Answer::Through => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Fail(errno) => (0, -errno, 0),
            Answer::Return(value) => (value, 0, 0),
        };
        let answer = libc::seccomp_notif_resp {
            id: call.id,
            val: value,
            error,
            flags,
        };
        let descriptor = self.0.as_raw_fd();
        // SAFETY: the kernel reads the structure that the live pointer leads to.
        let result = unsafe {
            libc::ioctl(
                descriptor,
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw const answer,
            )
        };
        match result {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
