//! The registers of a stopped thread: its system call, its stack.

use std::io;

/// The registers of a 64-bit program.
#[derive(Clone, Copy)]
pub struct Registers(Raw);

/// The kernel's set of general registers (`NT_PRSTATUS`).
#[cfg(target_arch = "x86_64")]
type Raw = libc::user_regs_struct;

/// The kernel's set of general registers: `x0` to `x30`, `sp`, `pc` and `pstate`.
#[cfg(target_arch = "aarch64")]
type Raw = [u64; 34];

/// No processor that is known.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Raw = u64;

/// Whether the registers of this processor are known.
pub(super) const KNOWN: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// The number of the system call on aarch64, where it is no general register once the call has
/// begun.
#[cfg(target_arch = "aarch64")]
const NT_ARM_SYSTEM_CALL: i32 = 0x404;

impl Registers {
    /// Those of a stopped thread; `None` when it runs a program of fewer bits.
    ///
    /// # Errors
    /// The errno of `ptrace(2)`.
    pub fn of(thread: i32) -> io::Result<Option<Registers>> {
        // SAFETY: the structure consists of integers, for which zeros are valid.
        let mut raw: Raw = unsafe { std::mem::zeroed() };
        let len = transfer(libc::PTRACE_GETREGSET, thread, libc::NT_PRSTATUS, &mut raw)?;
        Ok((len == size_of::<Raw>()).then_some(Registers(raw)))
    }

    /// Gives a stopped thread these registers.
    ///
    /// # Errors
    /// The errno of `ptrace(2)`.
    pub fn set(mut self, thread: i32) -> io::Result<()> {
        transfer(
            libc::PTRACE_SETREGSET,
            thread,
            libc::NT_PRSTATUS,
            &mut self.0,
        )
        .map(drop)
    }
}

#[cfg(target_arch = "x86_64")]
impl Registers {
    /// The number of the system call that the thread is in.
    pub fn call(&self) -> i64 {
        self.0.orig_rax.cast_signed()
    }

    /// An argument of it, 0 to 5.
    pub fn argument(&self, position: usize) -> u64 {
        let raw = &self.0;
        [raw.rdi, raw.rsi, raw.rdx, raw.r10, raw.r8, raw.r9][position]
    }

    /// The same, to be changed.
    pub fn argument_mut(&mut self, position: usize) -> &mut u64 {
        let raw = &mut self.0;
        let arguments = [
            &mut raw.rdi,
            &mut raw.rsi,
            &mut raw.rdx,
            &mut raw.r10,
            &mut raw.r8,
            &mut raw.r9,
        ];
        let mut arguments = arguments.into_iter();
        arguments.nth(position).expect("a call has six arguments")
    }

    /// The stack pointer.
    pub fn stack(&self) -> u64 {
        self.0.rsp
    }

    /// Has a thread that begins a system call not make it, and go on with this result.
    ///
    /// # Errors
    /// The errno of `ptrace(2)`.
    pub fn answer(mut self, thread: i32, result: i64) -> io::Result<()> {
        self.0.orig_rax = u64::MAX;
        self.0.rax = result.cast_unsigned();
        self.set(thread)
    }
}

#[cfg(target_arch = "aarch64")]
impl Registers {
    /// The number of the system call that the thread is in.
    pub fn call(&self) -> i64 {
        self.0[8].cast_signed()
    }

    /// An argument of it, 0 to 5. The first one is the result once the call has ended.
    pub fn argument(&self, position: usize) -> u64 {
        self.0[position]
    }

    /// The same, to be changed.
    pub fn argument_mut(&mut self, position: usize) -> &mut u64 {
        &mut self.0[position]
    }

    /// The stack pointer.
    pub fn stack(&self) -> u64 {
        self.0[31]
    }

    /// Has a thread that begins a system call not make it, and go on with this result.
    ///
    /// # Errors
    /// The errno of `ptrace(2)`.
    pub fn answer(mut self, thread: i32, result: i64) -> io::Result<()> {
        self.0[0] = result.cast_unsigned();
        self.set(thread)?;
        let mut none = -1i32;
        transfer(
            libc::PTRACE_SETREGSET,
            thread,
            NT_ARM_SYSTEM_CALL,
            &mut none,
        )
        .map(drop)
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[expect(missing_docs, reason = "nobody is followed on such a processor")]
impl Registers {
    pub fn call(&self) -> i64 {
        -1
    }

    pub fn argument(&self, _position: usize) -> u64 {
        self.0
    }

    pub fn argument_mut(&mut self, _position: usize) -> &mut u64 {
        &mut self.0
    }

    pub fn stack(&self) -> u64 {
        self.0
    }

    pub fn answer(self, _thread: i32, _result: i64) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }
}

/// Reads or writes a set of registers; returns how many bytes it has.
fn transfer<T>(
    request: Request,
    thread: i32,
    set: libc::c_int,
    value: &mut T,
) -> io::Result<usize> {
    let mut vector = libc::iovec {
        iov_base: (&raw mut *value).cast(),
        iov_len: size_of::<T>(),
    };
    // SAFETY: the vector describes `value`, which is live and consists of integers; the kernel
    // reads or writes no more than that.
    let result = unsafe { libc::ptrace(request, thread, set as usize, &raw mut vector) };
    match result {
        0 => Ok(vector.iov_len),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The type of `ptrace`'s first argument, which C libraries do not agree on.
#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;
