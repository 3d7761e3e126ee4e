//! What a `RUN` may do and reach of the machine, and what becomes of what it was doing when it
//! is killed.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Output, Project, Registry, output};
use crate::mounts::{build, containing, lines, printed};
use crate::parallel::wait_for;

#[test]
fn setuid_programs_give_root_to_other_users() {
    let file = "FROM busybox\n\
        RUN mkdir /opt && cp /bin/busybox /opt/ && chmod 4755 /opt/busybox && \
            sed -i 's/^root:x:/root::/' /etc/passwd\n\
        USER user\n\
        RUN id -u | sed 's/^/> /'; /opt/busybox su -c 'id -u' root | sed 's/^/> /'; \
            grep NoNewPrivs /proc/self/status | sed 's/.*\\t/> /'\n";
    assert_eq!(printed(file, &[]), ["1000", "0", "0"]);
}

/// Runs kiln below a shell script, which ends with `exec "$0" "$@"`.
fn below(project: &Project, unshare: &[&str], script: &str, arguments: &[&str]) -> Output {
    let kiln = project.command(arguments);
    let mut command = Command::new("unshare");
    command.args(unshare).args(["sh", "-euc", script]);
    command.arg(kiln.get_program()).args(arguments);
    command
        .env_clear()
        .current_dir(project.path("."))
        .stdin(Stdio::null());
    for (name, value) in kiln.get_envs() {
        command.env(name, value.expect("set"));
    }
    output(&mut command)
}

#[test]
fn the_machines_servers_and_no_others() {
    #[track_caller]
    fn check(machine: &str, expected: &[&str]) {
        let project = Project::with("FROM busybox\nRUN sed 's/^/> /' /etc/resolv.conf\n");
        project.write("resolv.conf", machine);
        let script = "mount --bind resolv.conf /etc/resolv.conf; exec \"$0\" \"$@\"";
        let arguments = ["build", "--progress", "plain", "."];
        let done = below(&project, &["--mount"], script, &arguments).success();
        assert_eq!(lines(&done), expected, "{machine}");
    }
    // A step shares the machine's network, and so reaches the stub.
    check(
        "# by systemd-resolved\nnameserver 127.0.0.53\noptions edns0\nsearch example.net\n",
        &[
            "search example.net",
            "nameserver 127.0.0.53",
            "options edns0",
        ],
    );
    check("nameserver 192.0.2.1\n", &["nameserver 192.0.2.1"]);
    check("", &[]);
}

#[test]
fn without_namespaces_a_run_says_what_is_missing() {
    let registry = Registry::start();
    let base = format!("{}/base", registry.address);
    let project = Project::with("FROM busybox\n");
    let push = ["build", "-q", "-t", &base, "--push", "."];
    project.kiln(&push).success();
    let project = Project::new();
    project.write(
        "Dockerfile",
        format!("FROM {base}\nCOPY Dockerfile /\nRUN true\n"),
    );
    registry.take_requests();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; \
        exec setpriv --bounding-set=-all --inh-caps=-all -- \"$0\" \"$@\"";
    let here = ["--user", "--map-root-user"];
    let done = below(&project, &here, script, &["build", "."]).code(1);
    drop(done.says(&[
        "no container can be started here",
        "sysctl user.max_user_namespaces=15000",
    ]));
    let requests = registry.take_requests();
    let blobs: Vec<_> = requests
        .iter()
        .filter(|request| request.starts_with("GET ") && request.contains("/blobs/"))
        .collect();
    assert_eq!(blobs.len(), 1, "the image's config alone: {blobs:?}");
    // What needs no container works.
    project.write("Dockerfile", format!("FROM {base}\nCOPY Dockerfile /\n"));
    below(&project, &here, script, &["build", "-q", "."]).success();
}

/// A process that ends with this value.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_real_agent_is_forwarded_and_nothing_of_it_is_kept() {
    let project = Project::with(
        "FROM busybox\nCOPY agent /\n\
         RUN --mount=type=ssh ssh-add -l | sed 's/^/> /'; \
            echo \"> $SSH_AUTH_SOCK $(stat -c '%a %u %g' $SSH_AUTH_SOCK)\"\n\
         USER user\n\
         RUN --mount=type=ssh,id=default,mode=0660,uid=1000,gid=2000,target=/tmp/agent \
            ssh-add -l | sed 's/^/> /'; echo \"> $SSH_AUTH_SOCK $(stat -c '%a %u %g' $SSH_AUTH_SOCK)\"\n\
         USER root\n\
         RUN test -z \"$SSH_AUTH_SOCK\" && test -z \"$(find / -xdev -type s)\" && ! test -e /run/buildkit\n",
    );
    project.host("ssh-keygen -q -t ed25519 -N '' -C forwarded -f key");
    put_ssh_add(&project);
    let agent = |name: &str| {
        let socket = project.path(name);
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while !socket.exists() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        project.host(&format!(
            "SSH_AUTH_SOCK={} ssh-add -q key",
            socket.display()
        ));
        (Background(child), format!("default={}", socket.display()))
    };
    let (_first, forwarded) = agent("first.key.sock");
    let done = build(&project, &["--ssh", &forwarded]);
    let listed = lines(&done);
    assert!(
        listed.len() == 4 && listed[0].ends_with("forwarded (ED25519)"),
        "{listed:?}"
    );
    // As another user, whom the agent itself would not talk to.
    assert_eq!(listed[2], listed[0]);
    assert_eq!(listed[1], "/run/buildkit/ssh_agent.0 600 0 0");
    assert_eq!(listed[3], "/tmp/agent 660 1000 2000");
    let private = fs::read_to_string(project.path("key")).unwrap();
    let secret = private.lines().nth(2).unwrap();
    let mut found = Vec::new();
    for text in [secret, "first.key.sock"] {
        containing(project.store(), text.as_bytes(), &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
    let (_second, forwarded) = agent("second.key.sock");
    let again = build(&project, &["--ssh", &forwarded]);
    assert_eq!(again.executed(), Vec::<String>::new());
    let other = Project::with("FROM busybox\nRUN --mount=type=ssh,required true\n");
    let refused = other.kiln(&["build", "."]).code(1);
    drop(refused.says(&["the step needs the ssh agent `default`"]));
}

/// Puts the program that asks agents into the context of `project`, below `agent`.
fn put_ssh_add(project: &Project) {
    project.host(
        "for file in /usr/bin/ssh-add $(ldd /usr/bin/ssh-add | grep -o '/[^ ]*'); do
             mkdir -p agent$(dirname $file); cp -L $file agent$file
         done
         mv agent/usr/bin agent/bin; rmdir agent/usr; echo '*key*' > .dockerignore",
    );
}

#[test]
fn files_of_keys_have_an_agent_while_the_build_runs() {
    let project = Project::with(
        "FROM busybox\nCOPY agent /\nRUN --mount=type=ssh,id=deploy ssh-add -l | sed 's/^/> /'\n",
    );
    put_ssh_add(&project);
    project.host(
        "ssh-keygen -q -t ed25519 -N '' -C one -f key1
         ssh-keygen -q -t ed25519 -N '' -C two -f key2
         ssh-keygen -q -t ed25519 -N secret -C three -f key3",
    );
    let keys = |names: &[&str]| {
        let paths = names.iter().map(|name| project.path(name));
        let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
        format!("deploy={}", paths.join(","))
    };
    let listed = lines(&build(&project, &["--ssh", &keys(&["key1", "key2"])]));
    assert!(
        listed.len() == 2 && listed[0].contains(" one ") && listed[1].contains(" two "),
        "{listed:?}"
    );
    // It was told to end when the build did.
    project.host(&format!(
        "while pgrep -f '[s]sh-agent -a {}'; do sleep 0.01; done",
        project.store().display()
    ));

    #[track_caller]
    fn refused(project: &Project, ssh: &str, says: &[&str]) {
        let done = project.kiln(&["build", "--ssh", ssh, "."]).code(1);
        drop(done.says(says));
    }
    let passphrase = ["key3 is not taken: ", "it has a passphrase"];
    refused(&project, &keys(&["key3"]), &passphrase);
    refused(
        &project,
        &keys(&["Dockerfile"]),
        &["Dockerfile is not taken: "],
    );
    let missing = ["--ssh deploy=", "cannot read", "No such file or directory"];
    refused(&project, &keys(&["key4"]), &missing);
}

/// The content of the file `f` in the cache mount `c`.
#[track_caller]
fn cached(project: &Project) -> Vec<String> {
    let file = "FROM busybox\nRUN --mount=type=cache,id=c,target=/c sed 's/^/> /' /c/f\n";
    project.write("Dockerfile", file);
    lines(&build(project, &[]))
}

#[test]
fn a_killed_step_leaves_the_cache_mount_as_it_was() {
    let step =
        |command: &str| format!("FROM busybox\nRUN --mount=type=cache,id=c,target=/c {command}\n");
    let project = Project::with(&step("echo old > /c/f"));
    project.build();
    let file = step("echo new > /c/f; echo > /c/g; sleep 66.$(echo 07)");
    project.write("Dockerfile", file);
    let mut killed = project.command(&["build", "."]);
    let mut killed = killed.stderr(Stdio::null()).spawn().unwrap();
    wait_for("sleep 66.07");
    // It has written when it sleeps.
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(cached(&project), ["old"]);
}

#[test]
fn sharing_modes_of_steps_at_once() {
    /// `meet` is what each of the two steps does while it has the mount.
    #[track_caller]
    fn check(sharing: &str, meet: [&str; 2], expected: &str) {
        let step = |own: &str, meet: &str| {
            format!(
                "FROM busybox AS {own}\nRUN --mount=type=cache,id=c,target=/c,sharing={sharing} \
                 echo {own} > /c/{own}; echo {own} > /c/f; {meet}; ls /c | wc -l > /seen\n"
            )
        };
        let project = Project::with(&format!(
            "{}{}FROM busybox\nCOPY --from=a /seen /a\nCOPY --from=b /seen /b\n\
             RUN --mount=type=cache,id=c,target=/c \
                 echo \"> $(cat /a /b | sort | tr -d '\\n') $(ls /c | wc -l)\"\n",
            step("a", meet[0]),
            step("b", meet[1]),
        ));
        assert_eq!(lines(&build(&project, &[])), [expected], "{sharing}");
    }
    // Whoever calls waits until both have called.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let (Ok(one), Ok(two)) = (listener.accept(), listener.accept()) {
            drop((one, two));
        }
    });
    let call = format!("timeout 20 nc 127.0.0.1 {port} </dev/null");
    let meet = [call.as_str(), call.as_str()];
    check("shared", meet, "22 3");
    // What the later one did is dropped.
    check("private", meet, "22 2");
    // The second one sees what the first one did.
    check("locked", ["true", "true"], "23 3");
}

#[test]
fn binds_of_stages_and_tmpfs() {
    let file = "FROM busybox AS s\nRUN mkdir /d && echo stage > /d/f\nFROM busybox\n\
        RUN --mount=type=bind,from=s,source=/d,target=/m,rw --mount=type=tmpfs,target=/t,size=4m \
            echo more >> /m/f; sed 's/^/> /' /m/f; df -k /t | awk 'NR==2{print \"> \" $2}'; \
            dd if=/dev/zero of=/t/big bs=1M count=5 2>/dev/null || echo '> full'\n\
        RUN --mount=type=bind,from=s,source=/d,target=/m sed 's/^/> /' /m/f; \
            echo x 2>/dev/null > /m/f || echo '> refused'; test -e /t || echo '> gone'\n";
    let expected = ["stage", "more", "4096", "full", "stage", "refused", "gone"];
    assert_eq!(printed(file, &[]), expected);
}
