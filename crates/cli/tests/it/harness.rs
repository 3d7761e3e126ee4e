//! One store, one project directory and one clean environment for each test.

use std::fs;

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A project, its store and how kiln is called on them.
pub(crate) struct Project {
    folder: TempDir,
    store: PathBuf,
    env: Vec<(String, String)>,
}

/// What a command left behind, before anybody looked at how it ended.
#[must_use = "assert how it ended: `.success()` or `.code(n)`"]
pub(crate) struct Output {
    code: Option<i32>,
    done: Done,
}

/// What a command left behind that ended as expected.
pub(crate) struct Done {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    what: String,
}

impl Project {
    /// An empty project with an empty store.
    pub(crate) fn new() -> Project {
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(folder.path().join("work")).expect("made");
        let store = folder.path().join("store");
        Project {
            folder,
            store,
            env: Vec::new(),
        }
    }

    /// A project with this Dockerfile whose store has the image `busybox`.
    pub(crate) fn with(dockerfile: &str) -> Project {
        let project = Project::new();
        project.busybox();
        project.write("Dockerfile", dockerfile);
        project
    }

    /// Sets an environment variable for every later call.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Project {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A path of the project.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// The store's directory.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// Writes a file of the project, making its directories.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories are made");
        fs::write(path, content).expect("the file is written");
    }

    /// The command `kiln`, ready to be changed before it runs.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command
            .args(arguments)
            .current_dir(self.folder.path().join("work"))
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.folder.path())
            .env("KILN_ROOT", &self.store)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs kiln.
    pub(crate) fn kiln(&self, arguments: &[&str]) -> Output {
        output(&mut self.command(arguments))
    }

    /// Runs kiln with a file as standard input.
    pub(crate) fn kiln_reading(&self, arguments: &[&str], input: &str) -> Output {
        let input = fs::File::open(self.path(input)).expect("standard input is there");
        output(self.command(arguments).stdin(input))
    }

    /// Runs a program of Debian's in the project's directory, and expects success.
    #[track_caller]
    pub(crate) fn host(&self, script: &str) -> String {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-euc", script])
            .current_dir(self.path("."))
            .env("HOME", self.folder.path())
            .stdin(Stdio::null());
        output(&mut command).success().stdout
    }

    /// Builds the project as `image` with plain progress, and expects success.
    #[track_caller]
    pub(crate) fn build(&self) -> Done {
        self.kiln(&["build", "--progress", "plain", "-t", "image", "."])
            .success()
    }

    /// Runs a shell command in `image` and returns what it printed.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        self.kiln(&[
            "run",
            "--rm",
            "--entrypoint",
            "/bin/sh",
            "image",
            "-c",
            script,
        ])
        .success()
        .stdout
    }

    /// Gives the store the image `busybox`.
    pub(crate) fn busybox(&self) {
        let context = self.folder.path().join("busybox");
        fs::create_dir(&context).expect("made");
        fs::copy("/bin/busybox", context.join("busybox")).expect("busybox-static is installed");
        fs::set_permissions(context.join("busybox"), fs::Permissions::from_mode(0o755))
            .expect("set");
        let dockerfile = "FROM scratch\n\
            COPY busybox /bin/busybox\n\
            RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
            RUN mkdir -p /etc /tmp /root && chmod 1777 /tmp && \
                printf 'root:x:0:0:root:/root:/bin/sh\\nuser:x:1000:1001::/home/user:/bin/sh\\n' > /etc/passwd && \
                printf 'root:x:0:\\nuser:x:1001:\\nextra:x:2000:user\\n' > /etc/group\n\
            CMD [\"sh\"]\n";
        fs::write(context.join("Dockerfile"), dockerfile).expect("written");
        let context = context.to_string_lossy().into_owned();
        self.kiln(&["build", "-q", "-t", "busybox", &context])
            .success();
    }
}

impl Output {
    /// Expects exit code 0.
    #[track_caller]
    pub(crate) fn success(self) -> Done {
        self.code(0)
    }

    /// Whether it ended with exit code 0.
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Expects an exit code.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Done {
        let Done {
            stdout,
            stderr,
            what,
        } = &self.done;
        assert_eq!(
            self.code,
            Some(expected),
            "{what}\nstdout:\n{stdout}\nstderr:\n{stderr}"
        );
        self.done
    }
}

impl Done {
    /// Expects each of these texts on standard error.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Done {
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "{} does not say {text:?}:\n{}",
                self.what,
                self.stderr
            );
        }
        self
    }

    /// Names of instructions that ran: lines `#N DONE 0.0s NAME`. Looking at the context is none.
    pub(crate) fn executed(&self) -> Vec<String> {
        let name = |rest: &str| {
            rest.split_once("s ")
                .map_or(rest, |(_, name)| name)
                .to_string()
        };
        let mut names = self.lines_with(" DONE ", name);
        names.retain(|name| !name.starts_with("[internal]"));
        names
    }

    /// Names of steps that were cached: lines `#N CACHED NAME`.
    pub(crate) fn cached(&self) -> Vec<String> {
        self.lines_with(" CACHED ", str::to_string)
    }

    fn lines_with(&self, mark: &str, name: impl Fn(&str) -> String) -> Vec<String> {
        let lines = self.stderr.lines().filter(|line| line.starts_with('#'));
        lines
            .filter_map(|line| line.split_once(mark))
            .map(|(_, rest)| name(rest))
            .collect()
    }
}

/// How often something random is done, or how thoroughly: the environment's number, or a small one.
pub(crate) fn times(variable: &str, default: u64) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "how thorough a test is, is its caller's choice"
    )]
    let text = std::env::var(variable);
    match text {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    }
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    let what = format!("{command:?}");
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let done = Done {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        what,
    };
    Output {
        code: output.status.code(),
        done,
    }
}

/// Runs a command through a shell script that has it as `$0` and `$@`.
pub(crate) fn wrap(command: &mut Command, script: &str) {
    wrap_in(command, &["/usr/bin/env"], script);
}

/// The same, the shell started by another program.
pub(crate) fn wrap_in(command: &mut Command, starter: &[&str], script: &str) {
    let mut shell = Command::new(starter[0]);
    shell
        .args(&starter[1..])
        .args(["/bin/sh", "-c"])
        .arg(script)
        .arg(command.get_program())
        .args(command.get_args());
    shell
        .current_dir(command.get_current_dir().unwrap())
        .env_clear();
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap());
    }
    *command = shell;
}

/// Runs a program of Debian's.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> Output {
    output(Command::new(program).args(arguments).stdin(Stdio::null()))
}

/// Debian's docker-registry on a port of its own, as long as this value lives.
pub(crate) struct Registry {
    pub(crate) address: String,
    server: testkit::DockerRegistry,
    seen: std::cell::Cell<usize>,
}

impl Registry {
    /// Starts one with empty storage.
    pub(crate) fn start() -> Registry {
        let server = testkit::DockerRegistry::start().expect("docker-registry is installed");
        Registry {
            address: server.host(),
            server,
            seen: std::cell::Cell::new(0),
        }
    }

    /// What it was asked since the last call, one `METHOD /path` each.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        let requests = self.server.requests();
        let seen = self.seen.replace(requests.len());
        requests[seen..].to_vec()
    }
}

/// Holds steps of a build until something has happened.
pub(crate) struct Gate(TcpListener);

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate(TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port"))
    }

    /// The command that waits at the gate.
    pub(crate) fn command(&self) -> String {
        let port = self.0.local_addr().expect("a bound port").port();
        format!("nc 127.0.0.1 {port} < /dev/null")
    }

    /// The instruction that does.
    pub(crate) fn step(&self) -> String {
        format!("RUN {}\n", self.command())
    }

    /// Waits until as many steps are at the gate at once. They go on when what is returned is
    /// dropped.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> Vec<TcpStream> {
        let there: Vec<TcpStream> = (0..count)
            .map_while(|_| self.next_within(Duration::from_secs(30)))
            .collect();
        assert_eq!(there.len(), count, "steps that run at once");
        there
    }

    /// The next step that comes to the gate before time is up.
    pub(crate) fn next_within(&self, time: Duration) -> Option<TcpStream> {
        let deadline = Instant::now() + time;
        self.0.set_nonblocking(true).expect("a socket");
        loop {
            match self.0.accept() {
                Ok((step, _)) => return Some(step),
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(_) => return None,
            }
        }
    }

    /// Lets the step go once `ready`, and expects the build to succeed. Fails, saying `late`, when
    /// that does not come, or not while the step waits.
    #[track_caller]
    pub(crate) fn open_when(&self, mut build: Child, ready: impl Fn() -> bool, late: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready() {
            assert!(Instant::now() < deadline, "{late}");
            let ended = build.try_wait().expect("the build is ours");
            assert!(ended.is_none(), "the last step waits");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(self.wait_for(1));
        assert!(build.wait().expect("the build is ours").success());
    }
}
