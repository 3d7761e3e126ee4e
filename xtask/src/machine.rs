//! The machine the chores run on: where the project is, how programs are run, which of Debian's
//! packages are there. Installs packages; decides nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program that a chore needs, and the Debian package that has it.
pub(crate) struct Tool {
    /// Absolute path, as the package installs it.
    pub(crate) path: &'static str,
    /// Debian's package.
    pub(crate) package: &'static str,
}

/// What the demo needs.
pub(crate) const DEMO: &[Tool] = &[
    Tool {
        path: "/bin/busybox",
        package: "busybox-static",
    },
    Tool {
        path: "/usr/bin/docker-registry",
        package: "docker-registry",
    },
    Tool {
        path: "/usr/bin/newuidmap",
        package: "uidmap",
    },
];

/// What the tests need beside [`DEMO`].
pub(crate) const TESTS: &[Tool] = &[
    Tool {
        path: "/usr/bin/skopeo",
        package: "skopeo",
    },
    Tool {
        path: "/usr/bin/umoci",
        package: "umoci",
    },
    Tool {
        path: "/usr/bin/crun",
        package: "crun",
    },
    Tool {
        path: "/usr/bin/fsck.erofs",
        package: "erofs-utils",
    },
    Tool {
        path: "/usr/bin/faketime",
        package: "faketime",
    },
    Tool {
        path: "/usr/bin/git",
        package: "git",
    },
    Tool {
        path: "/usr/bin/pigz",
        package: "pigz",
    },
    Tool {
        path: "/usr/bin/bsdtar",
        package: "libarchive-tools",
    },
    Tool {
        path: "/usr/bin/python3",
        package: "python3",
    },
    Tool {
        path: "/usr/sbin/setcap",
        package: "libcap2-bin",
    },
    Tool {
        path: "/usr/bin/ssh-agent",
        package: "openssh-client",
    },
    Tool {
        path: "/usr/bin/strace",
        package: "strace",
    },
    Tool {
        path: "/usr/bin/bzip2",
        package: "bzip2",
    },
    Tool {
        path: "/usr/bin/xz",
        package: "xz-utils",
    },
    Tool {
        path: "/usr/bin/zstd",
        package: "zstd",
    },
    Tool {
        path: "/usr/bin/gcc",
        package: "gcc",
    },
];

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Runs a program in the workspace's root, its output shown.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    run_with(Command::new(program).args(arguments))
}

/// Runs a prepared command in the workspace's root, its output shown.
pub(crate) fn run_with(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command
        .current_dir(root())
        .status()
        .with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a program in the workspace's root and returns its standard output.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds kiln as it is shipped, one static binary, and returns its path.
pub(crate) fn release_binary() -> Result<PathBuf> {
    let version = output("rustc", &["--version", "--verbose"])?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names no host")?;
    let mut command = Command::new("cargo");
    command.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "cli",
        "--target",
        host,
    ]);
    run_with(command.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(target().join(host).join("release/kiln"))
}

/// Whether a command ends well; nothing of it is shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a program is on the path.
pub(crate) fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Installs the packages of the tools that are missing.
///
/// # Errors
/// When some are missing and this is no Debian machine with root, naming the packages.
pub(crate) fn ensure(tools: &[&[Tool]]) -> Result<()> {
    let missing: Vec<&str> = tools
        .iter()
        .flat_map(|set| set.iter())
        .filter(|tool| !Path::new(tool.path).exists())
        .map(|t| t.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!(
        "install them by hand: apt-get install {}",
        missing.join(" ")
    );
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "these Debian packages are needed: {}; {by_hand}",
            missing.join(" ")
        );
    }
    let install = || -> Result<()> {
        run("apt-get", &["update", "-qq"])?;
        let mut command = Command::new("apt-get");
        command
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing);
        run_with(
            command
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdout(Stdio::null()),
        )
    };
    install().with_context(|| format!("installing Debian packages needs root; {by_hand}"))
}
