//! Edits of a project that must not run any step again, and edits that must. What counts is what
//! will be in the layer: not when, by whom, where or in what order it was written.

use std::process::Command;

use crate::harness::{Project, output};

const DOCKERFILE: &str = "FROM scratch\n\
    COPY --exclude=**/*.log src /src\n\
    COPY top-*.txt /etc/\n\
    ADD t.tar /unpacked/\n";

fn project() -> Project {
    let project = Project::new();
    project.write("Dockerfile", DOCKERFILE);
    project.write(".dockerignore", "*.tmp\nnode_modules\n# the end\n!src\n");
    for name in [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "sub/deep/eight",
        "sub/nine",
        "other/ten",
        "noise.log",
    ] {
        project.write(&format!("src/{name}"), format!("{name}\n"));
    }
    project.write("top-a.txt", "a\n");
    project.write("unrelated", "u\n");
    project.write("node_modules/m/index.js", "m\n");
    project.write("build.tmp", "t\n");
    project.host(
        "chmod -R u=rwX,go=rX .; mkdir src/empty src/void; ln -s one src/link; ln -s gone src/dangling
         truncate -s 64K src/hole; printf end >> src/hole; tar -cf t.tar unrelated",
    );
    project
}

/// The steps that ran.
fn build(project: &Project, flags: &[&str]) -> Vec<String> {
    let arguments = ["build", "--progress", "plain", "-t", "image"];
    let arguments: Vec<&str> = arguments.iter().chain(flags).copied().collect();
    project
        .kiln(&[&arguments[..], &["."]].concat())
        .success()
        .executed()
}

/// Makes each edit on top of those before it, and builds: each runs steps again, or none does.
#[track_caller]
fn check(project: &Project, flags: &[&str], runs: bool, edits: &[(&str, &str)]) {
    build(project, flags);
    for (what, script) in edits {
        project.host(script);
        let executed = build(project, flags);
        assert_eq!(!executed.is_empty(), runs, "{what}: {executed:?}");
        assert_eq!(
            build(project, flags),
            Vec::<String>::new(),
            "{what}, and nothing more"
        );
    }
}

#[test]
fn edits_that_hit() {
    let xattr = "import os; os.setxattr('src/one', 'trusted.mine', b'x')";
    check(
        &project(),
        &[],
        false,
        &[
            ("the time of a file", "touch src/one"),
            ("the time of a directory", "touch src src/sub"),
            ("a time long ago", "touch -d 1971-01-01 src/two"),
            ("a time to come", "touch -d 2099-01-01 src/three"),
            ("the time of a link", "touch -h src/link"),
            ("the owner of the checkout", "chown -Rh 1234 ."),
            ("its group", "chgrp -Rh 1234 ."),
            (
                "the same bytes written again",
                "cp src/four x; cat x > src/four; rm x",
            ),
            (
                "another file of the same content",
                "cp -p src/five x; mv x src/five",
            ),
            (
                "another directory of the same content",
                "cp -a src/sub x; rm -r src/sub; mv x src/sub",
            ),
            (
                "the tree copied and moved back",
                "cp -a src x; rm -r src; mv x src",
            ),
            (
                "names made in another order",
                "cd src; for f in six five; do cp -p $f x; rm $f; mv x $f; done",
            ),
            (
                "a hole filled",
                "cp --sparse=never src/hole x; chmod 644 x; mv x src/hole",
            ),
            ("one more name beside the context", "ln src/six ../six"),
            (
                "an attribute of the machine's",
                &format!("python3 -c \"{xattr}\""),
            ),
            ("the mode of the source directory", "chmod 700 src"),
            ("the mode of the context", "chmod 711 ."),
            ("an ignored file", "echo 2 > build.tmp"),
            ("a new ignored file", "echo 2 > new.tmp"),
            (
                "a file in an ignored directory",
                "echo 2 > node_modules/m/index.js",
            ),
            ("the mode of an ignored directory", "chmod 700 node_modules"),
            ("an ignored directory gone", "rm -r node_modules"),
            (
                "a file that --exclude leaves out",
                "echo 2 > src/noise.log; echo 3 > src/sub/more.log",
            ),
            ("a file that nobody copies", "echo 2 > unrelated"),
            (
                "a new file that nobody copies",
                "mkdir docs; echo 2 > docs/README",
            ),
            (
                "a name that the wildcard does not match",
                "echo 2 > top-b.md",
            ),
            (
                "a comment in the ignore file",
                "echo '# more' >> .dockerignore",
            ),
            (
                "the ignore file in another order",
                "sort -r .dockerignore > x; mv x .dockerignore",
            ),
            (
                "a rule that matches nothing",
                "echo '*.none' >> .dockerignore",
            ),
            (
                "a comment in the Dockerfile",
                "sed -i '2i # why' Dockerfile",
            ),
            (
                "continued lines",
                "sed -i 's/ src .src/ \\\\\\n  src \\\\\\n  \\/src/' Dockerfile",
            ),
            ("small letters", "sed -i 's/^COPY top/copy top/' Dockerfile"),
            (
                "the brackets of JSON",
                "sed -i 's/^ADD .*/ADD [\"t.tar\", \"\\/unpacked\\/\"]/' Dockerfile",
            ),
            (
                "metadata of the image",
                "printf 'LABEL a=b\\nCMD [\"x\"]\\nEXPOSE 80\\nENV E=1\\n' >> Dockerfile",
            ),
            (
                "another pattern that leaves out the same",
                "sed -i 's/exclude=\\*\\*.\\*.log/exclude=**\\/*.l?g/' Dockerfile",
            ),
            (
                "the source by another name",
                "mv src moved; sed -i 's/^  src/  moved/' Dockerfile; sed -i 's/!src/!moved/' .dockerignore",
            ),
            (
                "a source from the root, with a slash",
                "sed -i 's/^  moved/  \\/moved\\//' Dockerfile",
            ),
        ],
    );
}

#[test]
fn surroundings_that_hit() {
    let project = project();
    build(&project, &[]);
    let kiln = env!("CARGO_BIN_EXE_kiln");
    for (what, script) in [
        ("the umask", "umask 077; \"$KILN\" $BUILD ."),
        (
            "an environment",
            "TZ=Asia/Tokyo LANG=tr_TR.UTF-8 USER=x HOSTNAME=y \"$KILN\" $BUILD .",
        ),
        ("an absolute path", "\"$KILN\" $BUILD \"$PWD\""),
        (
            "another working directory",
            "cd /; \"$KILN\" $BUILD \"$OLDPWD\"",
        ),
        (
            "a link to the context",
            "ln -s \"$PWD\" ../way; \"$KILN\" $BUILD ../way",
        ),
        (
            "a copy of the context elsewhere",
            "cp -r . ../copy; \"$KILN\" $BUILD ../copy",
        ),
        (
            "the Dockerfile elsewhere",
            "cp Dockerfile ../Other; \"$KILN\" $BUILD -f ../Other .",
        ),
        (
            "the Dockerfile on standard input",
            "\"$KILN\" $BUILD -f - . < Dockerfile",
        ),
        (
            "an argument that nobody declares",
            "\"$KILN\" $BUILD --build-arg NOBODY=1 . || true",
        ),
        (
            "labels and a tag",
            "\"$KILN\" $BUILD --label a=b -t other .",
        ),
        ("one job", "\"$KILN\" $BUILD --jobs 1 ."),
        ("a tar of the context", "tar -c . | \"$KILN\" $BUILD -"),
    ] {
        let mut command = Command::new("/bin/sh");
        let plain = project.command(&[]);
        command
            .args(["-euc", script])
            .current_dir(project.path("."))
            .env_clear();
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap());
        }
        command
            .env("KILN", kiln)
            .env("BUILD", "build --progress plain");
        let done = output(&mut command).success();
        assert!(done.stderr.contains("CACHED"), "{what}: {}", done.stderr);
        assert_eq!(done.executed(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn edits_of_content_that_miss() {
    check(
        &project(),
        &[],
        true,
        &[
            ("other bytes", "echo other > src/one"),
            (
                "other bytes of the same length",
                "printf OTHER > x; head -c 5 x > src/one; echo >> src/one",
            ),
            (
                "other bytes of the same length and time",
                "cp -p src/two x; echo TWO > src/two; touch -r x src/two; rm x",
            ),
            ("one byte more", "printf x >> src/three"),
            ("one byte less", "truncate -s 2 src/three"),
            ("no bytes", ": > src/three"),
            (
                "another byte at the end of a hole",
                "printf END | dd of=src/hole bs=1 seek=65536 conv=notrunc status=none",
            ),
            ("a longer hole", "truncate -s 128K src/hole"),
            ("line ends", "sed -i 's/$/\\r/' src/four"),
            (
                "two files swapped",
                "mv src/five x; mv src/six src/five; mv x src/six",
            ),
            ("a new file", "echo n > src/new"),
            ("a new empty file", ": > src/blank"),
            ("a new hidden file", ": > src/.hidden"),
            ("a new empty directory", "mkdir src/sub/hollow"),
            (
                "a name that is not UTF-8",
                "touch \"$(printf 'src/n\\377')\"",
            ),
            ("a name with a line feed", "touch 'src/a\nb'"),
            ("one more match of the wildcard", "echo b > top-b.txt"),
            ("a match under another name", "mv top-b.txt top-c.txt"),
            ("a file gone", "rm src/seven"),
            ("an empty directory gone", "rmdir src/void"),
            ("a file renamed", "mv src/new src/newer"),
            ("a name in capitals", "mv src/newer src/NEWER"),
            ("a directory renamed", "mv src/sub/deep src/sub/deeper"),
            ("a file in another directory", "mv src/sub/nine src/other/"),
            ("the archive's content", "tar -cf t.tar top-a.txt"),
            ("an archive that is none any more", "echo text > t.tar"),
        ],
    );
}

#[test]
fn edits_of_kind_and_metadata_that_miss() {
    let xattr = |value: &str| {
        format!("python3 -c \"import os; os.setxattr('src/five', 'user.k', b'{value}')\"")
    };
    let project = project();
    project.host("setcap cap_kill+ep src/seven");
    check(
        &project,
        &[],
        true,
        &[
            ("a mode", "chmod 600 src/one"),
            ("an executable", "chmod 755 src/one"),
            ("a setuid program", "chmod 4755 src/one"),
            ("a mode of a directory", "chmod 700 src/sub"),
            ("a sticky directory", "chmod 1777 src/sub"),
            ("a link", "ln -s two src/to-two"),
            ("a link to elsewhere", "ln -sfn three src/to-two"),
            (
                "a link to nothing that leads elsewhere",
                "ln -sfn lost src/dangling",
            ),
            (
                "a file instead of a link",
                "cp --remove-destination src/three src/to-two",
            ),
            (
                "a directory instead of a file",
                "rm src/to-two; mkdir src/to-two",
            ),
            (
                "a file instead of a directory",
                "rmdir src/to-two; echo 2 > src/to-two",
            ),
            (
                "a pipe instead of a file",
                "rm src/to-two; mkfifo src/to-two",
            ),
            (
                "a device instead of a pipe",
                "rm src/to-two; mknod -m 644 src/to-two c 1 3",
            ),
            (
                "another device",
                "rm src/to-two; mknod -m 644 src/to-two c 1 5",
            ),
            ("a copy", "cp -p src/four src/again"),
            (
                "one file of two names instead of a copy",
                "ln -f src/four src/again",
            ),
            ("an attribute", &xattr("1")),
            ("another value of it", &xattr("2")),
            ("a capability", "setcap cap_net_raw+ep src/six"),
            ("another capability", "setcap cap_net_admin+ep src/six"),
            ("no capability", "setcap -r src/seven"),
            (
                "a rule that leaves a file out",
                "echo src/six >> .dockerignore",
            ),
            (
                "a rule that takes a file back",
                "echo 'src/o*' >> .dockerignore; echo '!src/one' >> .dockerignore",
            ),
            (
                "another --exclude",
                "sed -i 's/exclude=[^ ]*/exclude=two/' Dockerfile",
            ),
            (
                "another destination",
                "sed -i 's, /src$, /source,' Dockerfile",
            ),
            (
                "a --chmod",
                "sed -i 's/^COPY --exclude/COPY --chmod=700 --exclude/' Dockerfile",
            ),
            (
                "a --chown",
                "sed -i 's/^COPY top/COPY --chown=5 top/' Dockerfile",
            ),
            ("another --chown", "sed -i 's/chown=5/chown=6/' Dockerfile"),
            ("an archive as it is", "sed -i 's/^ADD/COPY/' Dockerfile"),
            ("another order", "sed -i '2{h;d};3{G}' Dockerfile"),
        ],
    );
}

#[test]
fn modes_of_git() {
    let git = ["--context-modes", "git"];
    let project = project();
    check(
        &project,
        &git,
        false,
        &[
            (
                "a checkout under another umask",
                "chmod -R go-rwx src top-a.txt",
            ),
            (
                "a checkout under none",
                "chmod -R a+rw src top-a.txt; find src -type d -exec chmod 777 {} +",
            ),
            (
                "modes that git does not know",
                "chmod 1777 src/sub; chmod 2755 src/other",
            ),
        ],
    );
    check(
        &project,
        &git,
        true,
        &[
            ("what git calls executable", "chmod u+x src/one"),
            ("and what not", "chmod a-x src/one; echo 2 >> src/one"),
            ("content", "echo 2 > src/two"),
        ],
    );
    let modes = project.host(
        "mkdir ../out; \"$KILN\" build --context-modes git -q -o type=local,dest=../out . && stat -c %a ../out/src/two ../out/src/sub"
            .replace("\"$KILN\"", &format!("KILN_ROOT=../store {}", env!("CARGO_BIN_EXE_kiln")))
            .as_str(),
    );
    assert!(modes.ends_with("644\n755\n"), "{modes}");
}
