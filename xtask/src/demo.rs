//! `cargo xtask demo`: from a fresh checkout to an image that was built, run and pushed.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::machine::{self, root, run_with};

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

/// A registry that lives as long as this value.
struct Registry {
    address: String,
    process: Child,
}

impl Registry {
    fn start(state: &Path) -> Result<Registry> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let storage = state.join("registry");
        let config = state.join("registry.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
                storage.display()
            ),
        )?;
        let process = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start docker-registry")?;
        let registry = Registry { address, process };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&registry.address).is_err() {
            if Instant::now() > deadline {
                bail!("docker-registry does not answer on {}", registry.address);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
