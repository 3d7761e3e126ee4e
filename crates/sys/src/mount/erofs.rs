//! EROFS images over a second file that holds the data.

use super::attach::{move_mount, open_part, proc_path};
use super::filesystem::{FsOption, mount_new};
use super::{Attributes, MountError};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How this machine can mount a packed layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErofsSupport {
    /// Straight from files (Linux 6.12 and later).
    Files,
    /// Through loop devices.
    LoopDevices,
    /// Not at all, for this reason.
    None(&'static str),
}

/// Finds out how packed layers can be mounted whose files lie on the file system of `sample`, a
/// regular file that is not empty. Mounts nothing.
pub fn erofs_support(sample: BorrowedFd<'_>) -> ErofsSupport {
    let options = [FsOption::Value("source", proc_path(sample))];
    let error = match mount_new("erofs", &options, Attributes::MOUNT_ATTR_RDONLY) {
        // The sample happens to be an image.
        Ok(_) => return ErofsSupport::Files,
        Err(error) => error,
    };
    match error.errno() {
        libc::ENODEV => ErofsSupport::None("the kernel has no EROFS"),
        libc::EPERM => ErofsSupport::None(
            "only root of the machine may mount EROFS (not root of a user namespace)",
        ),
        libc::ENOSYS => ErofsSupport::None("the kernel has no fsopen"),
        libc::ENOTBLK if Path::new("/dev/loop-control").exists() => ErofsSupport::LoopDevices,
        libc::ENOTBLK => {
            ErofsSupport::None("EROFS over files needs Linux 6.12 or loop devices in /dev")
        }
        // It read the file and found no image in it.
        _ => ErofsSupport::Files,
    }
}

/// Mounts `index` with `tar` as second device at `at`, read-only: from the files, else through
/// loop devices that go away with the mount.
///
/// # Errors
/// [`MountError::ErofsUnsupported`] where neither way exists on this machine; [`MountError`]
/// otherwise.
pub fn mount_erofs(index: &Path, tar: &Path, at: BorrowedFd<'_>) -> Result<(), MountError> {
    let (index_file, tar_file) = (open_part(index)?, open_part(tar)?);
    match mount_pair(&proc_path(index_file.as_fd()), &proc_path(tar_file.as_fd())) {
        Ok(mount) => move_mount(mount.as_fd(), at),
        Err(error) => match error.errno() {
            libc::ENOTBLK => mount_erofs_through_loops(index, tar, at),
            libc::ENODEV => unsupported("the kernel has no EROFS"),
            libc::ENOSYS => unsupported("the kernel has no fsopen"),
            libc::EPERM => unsupported("only root of the machine may mount EROFS"),
            _ => Err(error),
        },
    }
}

fn unsupported(reason: &'static str) -> Result<(), MountError> {
    Err(MountError::ErofsUnsupported { reason })
}

fn mount_pair(index: &str, tar: &str) -> Result<OwnedFd, MountError> {
    let options = [
        // Otherwise the kernel opens a block device for writing.
        FsOption::Flag("ro"),
        FsOption::Value("source", index.to_owned()),
        FsOption::Value("device", tar.to_owned()),
    ];
    mount_new("erofs", &options, Attributes::MOUNT_ATTR_RDONLY)
}

/// Like [`mount_erofs`], but always through loop devices.
///
/// # Errors
/// As [`mount_erofs`].
pub fn mount_erofs_through_loops(
    index: &Path,
    tar: &Path,
    at: BorrowedFd<'_>,
) -> Result<(), MountError> {
    if !Path::new("/dev/loop-control").exists() {
        return unsupported("EROFS over files needs Linux 6.12 or loop devices in /dev");
    }
    let attach = |path: &Path| {
        loop_device(path).map_err(|source| MountError::Open {
            path: format!("{} through a loop device", path.display()),
            source,
        })
    };
    // Both stay open until the mount holds them: they clear themselves on the last close.
    let (index_device, tar_device) = (attach(index)?, attach(tar)?);
    let mount = mount_pair(&index_device.path, &tar_device.path)?;
    drop((index_device, tar_device));
    move_mount(mount.as_fd(), at)
}

struct LoopDevice {
    path: String,
    /// Keeps the device configured.
    _open: File,
}

/// `struct loop_config` of `LOOP_CONFIGURE`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
/// Read-only, and cleared on the last close.
const LOOP_FLAGS: u32 = 1 | 4;

fn loop_device(path: &Path) -> io::Result<LoopDevice> {
    let file = File::open(path)?;
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    loop {
        // SAFETY: the request takes no argument and returns a device number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = format!("/dev/loop{number}");
        let device = File::open(&path)?;
        let config = LoopConfig {
            fd: file.as_raw_fd().cast_unsigned(),
            block_size: 0,
            info: LoopInfo {
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                size_limit: 0,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: LOOP_FLAGS,
                file_name: [0; 64],
                crypt_name: [0; 64],
                encrypt_key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        };
        // SAFETY: `config` has the layout of the kernel's `struct loop_config` and is only read.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        match result {
            0 => {
                return Ok(LoopDevice {
                    path,
                    _open: device,
                });
            }
            _ => {
                let error = io::Error::last_os_error();
                // Somebody else took the free number.
                if error.raw_os_error() != Some(libc::EBUSY) {
                    return Err(error);
                }
            }
        }
    }
}
