//! What strangers send: archives, contexts and images that try to read or write outside of their
//! root, or to cost more than they should. Each ends in an error or in the harmless reading, and
//! nothing beside it on the machine is read or written.

mod archives;
mod images;

use testkit::Archive;

use crate::harness::{Output, Project};

/// What no image may have in it.
const SECRET: &str = "what-the-machine-keeps-to-itself";

/// A project beside a directory that is nobody's business.
struct Yard {
    project: Project,
    /// The directory, absolute.
    outside: String,
    before: String,
}

impl Yard {
    fn new() -> Yard {
        let project = Project::new();
        project.host(&format!(
            "mkdir ../outside ../outside/drop; echo {SECRET} > ../outside/secret; touch -d @5 ../outside ../outside/*"
        ));
        let outside = project.path("../outside").canonicalize().unwrap();
        let mut yard = Yard {
            project,
            outside: outside.to_string_lossy().into_owned(),
            before: String::new(),
        };
        yard.before = yard.look();
        yard
    }

    /// Everything that a write there would change; reading changes nothing.
    fn look(&self) -> String {
        let script = "find ../outside -printf '%p %y %m %U:%G %s %T@ %C@ %n\\n' | sort";
        self.project.host(script)
    }

    /// The same place, from wherever it is said.
    fn upwards(&self) -> String {
        format!(
            "{}{}",
            "../".repeat(12),
            self.outside.trim_start_matches('/')
        )
    }

    /// Expects an error that says `Err`, or an image with the paths of `Ok` in it, each of which may
    /// say `=content`; and that nothing happened outside.
    #[track_caller]
    fn check(&self, what: &str, output: Output, expected: Result<&[&str], &str>) {
        let succeeded = output.succeeded();
        match expected {
            Ok(paths) => {
                let done = output.success();
                for path in paths {
                    let (path, content) = path.split_once('=').unwrap_or((path, ""));
                    let read = format!("tar -xOf out.tar {path}");
                    assert_eq!(self.project.host(&read).trim(), content, "{what}: {path}");
                }
                drop(done);
            }
            Err(says) => {
                assert!(!succeeded, "{what} should be an error that says {says:?}");
                let done = output.code(1).says(&[says]);
                assert!(!done.stderr.contains(SECRET), "{what}: {}", done.stderr);
                assert!(!done.stderr.contains("panicked"), "{what}: {}", done.stderr);
            }
        }
        assert_eq!(self.look(), self.before, "{what} wrote outside");
        let leaks =
            "grep -rl what-the-machine-keeps out.tar ../store 2>/dev/null | wc -l; rm -f out.tar";
        assert_eq!(self.project.host(leaks).trim(), "0", "{what} read outside");
    }

    #[track_caller]
    fn build(&self, dockerfile: &str) -> Output {
        self.project.write("Dockerfile", dockerfile);
        let arguments = ["build", "-o", "type=tar,dest=out.tar", "."];
        self.project.kiln(&arguments)
    }

    /// `ADD`s an archive, and takes it as a context on standard input.
    #[track_caller]
    fn check_archive(&self, what: &str, archive: Archive, expected: Result<&[&str], &str>) {
        let dockerfile = "FROM scratch\nCOPY . /d/\n";
        let context = Archive::default().file("Dockerfile", dockerfile.as_bytes());
        let context = Archive([context.0, archive.0.clone()].concat());
        self.project.write("context.tar", context.end());
        let arguments = ["build", "-o", "type=tar,dest=out.tar", "-"];
        let output = self.project.kiln_reading(&arguments, "context.tar");
        self.check(&format!("{what} as a context"), output, expected);
        // Behind a file, so that the archive's own oddity is not what says whether it is one.
        let added = Archive([Archive::default().file("first", b"").0, archive.0].concat());
        self.project.write("evil.tar", added.end());
        let output = self.build("FROM scratch\nADD evil.tar /d/\n");
        self.check(what, output, expected);
    }
}

fn new() -> Archive {
    Archive::default()
}

/// Fifos, devices and links in the places where kiln itself looks for its files.
#[test]
fn dockerfiles_and_ignore_files_are_regular_files_of_the_context() {
    let yard = Yard::new();
    let arguments = ["build", "-o", "type=tar,dest=out.tar", "-"];
    let secret = format!("{}/secret", yard.outside);
    for (what, archive, says) in [
        (
            "a pipe",
            new().entry(b'6', "Dockerfile", "", b""),
            "no regular file",
        ),
        (
            "an endless device",
            new().patched(b'3', "Dockerfile", &[(329, b"0000001\x000000005\0")], b""),
            "no regular file",
        ),
        (
            "a directory",
            new().file("Dockerfile/a", b""),
            "is a directory",
        ),
        (
            "a link",
            new().entry(b'2', "Dockerfile", &secret, b""),
            "leads out",
        ),
    ] {
        yard.project.write("context.tar", archive.end());
        let output = yard.project.kiln_reading(&arguments, "context.tar");
        yard.check(what, output, Err(says));
    }
    for name in ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"] {
        yard.project.write("Dockerfile", "FROM scratch\nCOPY . /\n");
        for (make, says) in [
            ("mkfifo".to_string(), "no regular file"),
            (format!("ln -s {secret}"), "leads out"),
            ("mkdir".to_string(), "is a directory"),
        ] {
            yard.project.host(&format!("rm -rf {name}; {make} {name}"));
            let output = yard.project.kiln(&["build", "."]);
            yard.check(&format!("{make} {name}"), output, Err(says));
        }
        yard.project.host(&format!("rm -r {name}"));
    }
}

#[test]
fn contexts_that_lead_outside() {
    let yard = Yard::new();
    let (outside, upwards) = (&yard.outside, yard.upwards());
    yard.project.host(&format!(
        "mkdir c; ln -s {outside} c/abs; ln -s {upwards} c/up; ln -s {outside}/secret c/file; ln -s loop c/loop
         echo f > f; echo 'FROM scratch' > Dockerfile"
    ));
    for (instruction, expected) in [
        // Links below a source are copied as links.
        ("COPY c /d/", Ok(&["d/abs", "d/up", "d/file"][..])),
        ("COPY c/file /d/", Err("does not exist")),
        ("COPY c/abs /d/", Err("does not exist")),
        ("COPY c/abs/secret /d/", Err("does not exist")),
        ("COPY c/up/secret /d/", Err("does not exist")),
        ("ADD c/up/secret /d/", Err("does not exist")),
        ("COPY --parents c/abs/secret /d/", Err("does not exist")),
        ("COPY c/abs/s* f /d/", Ok(&["d/f=f"])),
        ("COPY c/loop /d/", Err("symbolic links")),
        ("COPY --link c/abs/secret /d/", Err("does not exist")),
        (
            "RUN --mount=type=bind,source=c/abs,target=/m [\"x\"]",
            Err("does not exist"),
        ),
        ("COPY --from=named secret /d/", Err("does not exist")),
        ("COPY --from=named abs/secret /d/", Err("does not exist")),
    ] {
        yard.project
            .write("Dockerfile", format!("FROM scratch\n{instruction}\n"));
        let arguments = [
            "build",
            "--build-context",
            "named=c",
            "-o",
            "type=tar,dest=out.tar",
            ".",
        ];
        yard.check(instruction, yard.project.kiln(&arguments), expected);
    }
    yard.project.write(".dockerignore", "c/abs/secret\n");
    yard.check(
        "an ignore rule outside",
        yard.build("FROM scratch\nCOPY f /\n"),
        Ok(&["f=f"]),
    );
}

/// A node of a device says nothing of whether the device may be used: a container opens those of
/// `/dev` and no others, wherever they come from.
#[test]
fn devices_are_those_of_dev() {
    let project = Project::with(
        "FROM busybox AS image\nRUN mknod /z c 1 5\n\
         FROM busybox\nCOPY --from=image /z /z\nCOPY c /c\n\
         RUN --mount=from=image,target=/i --mount=target=/m --mount=type=cache,target=/cache --mount=type=tmpfs,target=/t \
           for z in /new /dev/new /cache/new /t/new; do mknod $z c 1 5; done; \
           for z in /z /c/z /i/z /m/c/z /new /dev/new /cache/new /t/new; do ! head -c 1 $z 2>>/why || echo $z >> /opened; done; \
           head -c 1 /dev/zero | wc -c >> /opened; echo x > /dev/null\n",
    );
    project.host("mkdir c; mknod c/z c 1 5");
    project.build();
    assert_eq!(
        project.shell("cat /opened; grep -c 'Permission denied' /why"),
        "1\n8\n"
    );
    // Whoever is asked for all of the machine has them all.
    project.write(
        "Dockerfile",
        "FROM busybox\nRUN --security=insecure mknod /z c 1 5 && head -c 1 /z | wc -c > /opened\n",
    );
    project
        .kiln(&["build", "--allow", "security.insecure", "-t", "image", "."])
        .success();
    assert_eq!(project.shell("cat /opened"), "1\n");
}
