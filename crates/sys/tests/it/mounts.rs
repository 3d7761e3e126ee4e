//! Mounts, made in a mount namespace of the test's own: each test runs itself again under
//! `unshare --mount`.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use sys::mount::{
    Attributes, ErofsSupport, FsOption, Overlay, bind, erofs_support, mount_erofs,
    mount_filesystem, mount_overlay, open_part,
};

/// Runs the test of this name in a mount namespace of its own. `false` in the outer run, and for
/// ordinary users.
#[track_caller]
fn inside(name: &str) -> bool {
    const MARK: &str = "SYS_TEST_INSIDE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    if !crate::privileged() {
        return false;
    }
    let output = Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{output:?}"
    );
    false
}

fn dir(base: &Path, name: &str) -> std::path::PathBuf {
    let path = base.join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn layers_are_bottom_first() {
    if !inside("mounts::layers_are_bottom_first") {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let base = base.path();
    let lowers: Vec<_> = ["one", "two", "three"]
        .iter()
        .map(|name| {
            fs::write(dir(base, name).join("top"), name).unwrap();
            open_part(&base.join(name)).unwrap()
        })
        .collect();
    let (upper, work) = (dir(base, "upper"), dir(base, "work"));
    let (upper, work) = (open_part(&upper).unwrap(), open_part(&work).unwrap());
    let at = dir(base, "at");
    let overlay = Overlay {
        lowers: &lowers,
        upper: Some((upper.as_fd(), work.as_fd())),
        userxattr: false,
    };
    mount_overlay(
        overlay,
        Attributes::empty(),
        open_part(&at).unwrap().as_fd(),
    )
    .unwrap();
    assert_eq!(fs::read_to_string(at.join("top")).unwrap(), "three");
    fs::write(at.join("new"), "x").unwrap();
    assert!(base.join("upper/new").exists());
    let read_only = dir(base, "read-only");
    let overlay = Overlay {
        upper: None,
        ..overlay
    };
    let at = open_part(&read_only).unwrap();
    mount_overlay(overlay, Attributes::MOUNT_ATTR_RDONLY, at.as_fd()).unwrap();
    assert_eq!(fs::read_to_string(read_only.join("top")).unwrap(), "three");
    assert!(fs::write(read_only.join("new"), "x").is_err());
}

#[test]
fn binds_are_protected_and_options_applied() {
    if !inside("mounts::binds_are_protected_and_options_applied") {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let (source, at) = (dir(base.path(), "source"), dir(base.path(), "at"));
    fs::write(source.join("f"), "x").unwrap();
    let attributes = Attributes::MOUNT_ATTR_RDONLY;
    let (source_fd, at_fd) = (open_part(&source).unwrap(), open_part(&at).unwrap());
    bind(source_fd.as_fd(), true, attributes, at_fd.as_fd()).unwrap();
    assert_eq!(fs::read_to_string(at.join("f")).unwrap(), "x");
    assert_eq!(
        fs::write(at.join("f"), "y").unwrap_err().raw_os_error(),
        Some(30)
    );
    fs::write(source.join("f"), "y").unwrap();
    let small = dir(base.path(), "small");
    let options = [FsOption::Value("size", "8192".to_owned())];
    let small_fd = open_part(&small).unwrap();
    mount_filesystem("tmpfs", &options, Attributes::empty(), small_fd.as_fd()).unwrap();
    assert_eq!(
        fs::write(small.join("f"), [0; 9000])
            .unwrap_err()
            .raw_os_error(),
        Some(28)
    );
}

#[test]
fn refusals_carry_what_the_kernel_said() {
    if !crate::privileged() {
        return;
    }
    let options = [FsOption::Value("no_such_option", "1".to_owned())];
    let error = sys::mount::mount_new("overlay", &options, Attributes::empty()).unwrap_err();
    assert_eq!(error.errno(), 22);
    assert!(error.to_string().contains("no_such_option"), "{error}");
    let error = sys::mount::mount_new("nofs", &[], Attributes::empty()).unwrap_err();
    assert_eq!(
        (error.errno(), error.to_string().as_str()),
        (19, "mount nofs")
    );
}

#[test]
fn packed_layers_from_files() {
    if !inside("mounts::packed_layers_from_files") {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let (index, data) = packed(base.path());
    let support = erofs_support(open_part(&data).unwrap().as_fd());
    assert_ne!(support, ErofsSupport::None("the kernel has no EROFS"));
    let at = dir(base.path(), "at");
    mount_erofs(&index, &data, open_part(&at).unwrap().as_fd()).unwrap();
    assert_eq!(fs::read_to_string(at.join("f")).unwrap(), "content");
}

#[test]
fn packed_layers_through_loop_devices() {
    if !inside("mounts::packed_layers_through_loop_devices") {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let (index, data) = packed(base.path());
    let at = dir(base.path(), "at");
    sys::mount::mount_erofs_through_loops(&index, &data, open_part(&at).unwrap().as_fd()).unwrap();
    assert_eq!(fs::read_to_string(at.join("f")).unwrap(), "content");
    let used = || {
        let devices = Command::new("losetup").arg("--list").output().unwrap();
        String::from_utf8(devices.stdout)
            .unwrap()
            .contains(data.to_str().unwrap())
    };
    assert!(used());
    sys::mount::detach(at.as_path()).unwrap();
    assert!(!used());
}

/// An EROFS image whose data lie in a second file.
fn packed(base: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    fs::write(dir(base, "tree").join("f"), "content").unwrap();
    let (index, data) = (base.join("index"), base.join("data"));
    let made = Command::new("mkfs.erofs")
        .arg("--chunksize=4096")
        .arg(format!("--blobdev={}", data.display()))
        .args([&index, &base.join("tree")])
        .output()
        .expect("install erofs-utils");
    assert!(made.status.success(), "{made:?}");
    (index, data)
}
