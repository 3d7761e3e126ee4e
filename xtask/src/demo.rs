//! `cargo xtask demo`: from a fresh checkout to an image that was built, run and pushed.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::machine::{self, root, run_with};
use crate::registry::Registry;

/// Sets up, builds `examples/hello`, runs it, pushes it to a registry started for the purpose.
pub(crate) fn run() -> Result<()> {
    machine::ensure(&[machine::DEMO])?;
    let demo = Demo::new(machine::release_binary()?)?;
    demo.base_image()?;
    let registry = Registry::start(&demo.state)?;
    let name = format!("{}/hello", registry.address);
    demo.kiln(&["build", "-t", &name, "examples/hello"])?;
    println!("\n-- again: nothing changed, so nothing runs");
    demo.kiln(&["build", "-t", &name, "examples/hello"])?;
    println!("\n-- run it");
    demo.kiln(&["run", "--rm", &name])?;
    println!(
        "\n-- push it to a registry (Debian's docker-registry, on {})",
        registry.address
    );
    demo.kiln(&["push", &name])?;
    demo.kiln(&["images"])?;
    println!(
        "\nThe binary is {}; the demo's images are in {}.",
        demo.binary.display(),
        demo.state.join("store").display()
    );
    Ok(())
}

struct Demo {
    binary: PathBuf,
    state: PathBuf,
}

impl Demo {
    fn new(binary: PathBuf) -> Result<Demo> {
        let state = machine::target().join("demo");
        fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
        Ok(Demo { binary, state })
    }

    fn kiln(&self, arguments: &[&str]) -> Result<()> {
        run_with(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env("KILN_ROOT", self.state.join("store"));
        command
    }

    /// `busybox`: from its registry when that answers, else made from Debian's static busybox.
    fn base_image(&self) -> Result<()> {
        let pull = self
            .command(&["pull", "-q", "busybox"])
            .current_dir(root())
            .stderr(Stdio::null())
            .status()?;
        if pull.success() {
            return Ok(());
        }
        println!(
            "-- docker.io cannot be reached: making a busybox image from Debian's busybox-static"
        );
        let context = self.state.join("busybox");
        fs::create_dir_all(&context)?;
        fs::copy("/bin/busybox", context.join("busybox"))?;
        fs::write(context.join("Dockerfile"), BUSYBOX)?;
        let context = context.to_string_lossy().into_owned();
        self.kiln(&["build", "-t", "busybox", &context])
    }
}

const BUSYBOX: &str = r#"FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "mkdir", "-p", "/tmp", "/root", "/etc", "/usr/bin", "/usr/sbin", "/sbin"]
RUN ["/bin/busybox", "--install", "-s"]
RUN echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd && echo 'root:x:0:' > /etc/group && chmod 1777 /tmp
CMD ["sh"]
"#;
