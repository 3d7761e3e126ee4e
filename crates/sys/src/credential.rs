//! Who this process is and what it may do: user, groups, capabilities, privileges.
//!
//! The calls act on the calling thread; use them in processes with one thread.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use std::io;

/// Sets the real, effective and saved group and user, and the supplementary groups. Going from
/// user 0 to another clears the capabilities.
///
/// # Errors
/// The errno of `setgroups(2)`, `setresgid(2)` or `setresuid(2)`.
pub fn set_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let groups: Vec<Gid> = groups.iter().map(|&group| Gid::from_raw(group)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    set_ids(uid, gid)
}

/// Like [`set_user`], but leaves the supplementary groups: for user namespaces that deny setting
/// them.
///
/// # Errors
/// The errno of `setresgid(2)` or `setresuid(2)`.
pub fn set_ids(uid: u32, gid: u32) -> io::Result<()> {
    let gid = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// The capabilities in effect, one bit each by the kernel's numbers.
///
/// # Errors
/// The errno of `capget(2)`.
pub fn effective_capabilities() -> io::Result<u64> {
    Ok(rustix::thread::capabilities(None)?.effective.bits())
}

/// Takes every capability that is not in `keep` out of the bounding set: no program started from
/// here can have it again.
///
/// # Errors
/// The errno of `prctl(2)`; `EPERM` without `CAP_SETPCAP`.
pub fn limit_capabilities(keep: u64) -> io::Result<()> {
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep & (1 << bit) != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first number that the kernel does not know.
            Err(Errno::INVAL) => break,
            // Nothing to take away is no reason to need the privilege for it.
            Err(Errno::PERM) if !rustix::thread::capability_is_in_bounding_set(capability)? => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Sets effective and permitted capabilities to those of `keep` that the process has, and clears
/// the inheritable and ambient ones.
///
/// # Errors
/// The errno of `capset(2)`.
pub fn set_capabilities(keep: u64) -> io::Result<()> {
    let have = rustix::thread::capabilities(None)?.permitted;
    let keep = have & CapabilitySet::from_bits_retain(keep);
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

/// Makes setuid bits and file capabilities of programs started from here ineffective, for good.
///
/// # Errors
/// The errno of `prctl(2)`.
pub fn set_no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}
