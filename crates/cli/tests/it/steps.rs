//! `RUN` clause by clause: forms, environment, layers, users, networks, mounts, each as BuildKit
//! has it. What is told elsewhere (secrets, caches, devices, limits) is not told here again.

use crate::harness::Project;
use crate::mounts::{build, lines, printed};

/// What the steps of a Dockerfile after `FROM busybox` print on lines `> …`, joined by `|`.
#[track_caller]
fn check(instructions: &str, flags: &[&str], expect: &str) {
    let file = format!("FROM busybox\n{instructions}");
    assert_eq!(printed(&file, flags).join("|"), expect, "{file}");
}

/// Builds in vain, and expects these texts.
#[track_caller]
fn check_error(instructions: &str, flags: &[&str], says: &[&str]) {
    let project = Project::with(&format!("FROM busybox\n{instructions}"));
    project.write("f", "content");
    let all: Vec<&str> = ["build", "--progress", "plain", "."]
        .iter()
        .chain(flags)
        .copied()
        .collect();
    drop(project.kiln(&all).code(1).says(says));
}

#[test]
fn shells_and_none() {
    check("RUN echo \"> $((1 + 1))\"\n", &[], "2");
    check("RUN [\"echo\", \"> $HOME\", \"a  b\"]\n", &[], "$HOME a  b");
    check(
        "SHELL [\"/bin/busybox\", \"sh\", \"-c\", \"echo \\\"> $0 $1\\\"\", \"shell\"]\nRUN some text\n",
        &[],
        "shell some text",
    );
    // Neither of the image's own commands has a part in it.
    check(
        "ENTRYPOINT [\"false\"]\nCMD [\"false\"]\nRUN echo '> plain'\n",
        &[],
        "plain",
    );
    check_error("RUN [\"no-such\"]\n", &[], &["no-such", "not found"]);
}

#[test]
fn variables() {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    // Without any variable, from an image that has none.
    let file = "FROM busybox AS b\nFROM scratch\nCOPY --from=b / /\nRUN /bin/busybox env | grep -v PWD | sort | sed 's/^/> /'\n";
    let path = format!("PATH={path}");
    let expect = ["HOME=/root", path.as_str(), "SHLVL=1"];
    assert_eq!(lines(&build(&Project::with(file), &[])), expect);
    check(
        "ENV A=env B=env\nARG A=arg\nARG B\nARG C=default\nARG D\nRUN echo \"> $A $B $C $D\"\n",
        &["--build-arg", "B=flag", "--build-arg", "D=flag"],
        "arg flag default flag",
    );
    check(
        "ENV PATH=/bin HOME=/h\nRUN echo \"> $PATH $HOME\"\n",
        &[],
        "/bin /h",
    );
}

#[test]
fn every_run_is_a_layer_with_what_it_changed_and_no_more() {
    let project = Project::with(
        "FROM busybox\nRUN true\nRUN mkdir /d && touch /d/old /f\nRUN rm /f && rm -r /d && mkdir /d && touch /d/new\n",
    );
    build(&project, &["-o", "type=oci,tar=false,dest=out"]);
    let blobs = project.path("out/blobs/sha256");
    let document = |path: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        blobs.join(digest.trim_start_matches("sha256:"))
    };
    let index = document(&project.path("out/index.json"));
    let manifest = document(&blob(&index["manifests"][0]));
    let config = document(&blob(&manifest["config"]));
    let layers = manifest["layers"].as_array().unwrap();
    let names: Vec<_> = layers[layers.len() - 3..]
        .iter()
        .map(|layer| {
            let list = format!("tar tzf {} | sort | tr '\n' ' '", blob(layer).display());
            project.host(&list)
        })
        .collect();
    let expect = ["", "d/ d/old f ", ".wh.f d/ d/.wh..wh..opq d/new "];
    assert_eq!(names, expect);
    // Each has its line in the history, the one that changed nothing too.
    let history = config["history"].as_array().unwrap();
    let full: Vec<_> = history
        .iter()
        .filter(|entry| entry["empty_layer"] != true)
        .map(|entry| entry["created_by"].as_str().unwrap())
        .collect();
    assert_eq!(full.len(), layers.len());
    assert_eq!(full[full.len() - 3], "RUN /bin/sh -c true # buildkit");
}

#[test]
fn users_that_the_image_does_not_have() {
    let text = "unable to find user nobody: no matching entries in passwd file";
    check_error("USER nobody\nRUN true\n", &[], &[text]);
    let text = "unable to find group none: no matching entries in group file";
    check_error("USER user:none\nRUN true\n", &[], &[text]);
    check("USER 1000\nRUN id -G | sed 's/^/> /'\n", &[], "1001 2000");
    check(
        "USER 77:88\nRUN echo \"> $(id -u) $(id -G)\"\n",
        &[],
        "77 88",
    );
}

#[test]
fn networks_of_all_steps_and_of_one() {
    let count = "ls /sys/class/net | wc -l | sed 's/^ */> /'";
    let all = ["--network", "none"];
    check(&format!("RUN {count}\n"), &all, "1");
    check(
        &format!("RUN --network=none {count}\n"),
        &["--network", "host"],
        "1",
    );
    // What the machine has, through the flag of the step, which the flag of the build allows.
    let machine = std::fs::read_dir("/sys/class/net")
        .unwrap()
        .count()
        .to_string();
    let host = format!("RUN --network=host {count}\n");
    check(&host, &["--network", "host"], &machine);
    check(&format!("RUN --network=default {count}\n"), &[], &machine);
    check_error(
        &host,
        &all,
        &["the step needs the entitlement network.host"],
    );
}

#[test]
fn insecure_steps_may_do_what_kiln_may() {
    let look = "echo \"> $(grep CapEff /proc/self/status | tail -c 17) $(grep Seccomp: /proc/self/status | tail -c 2) \
        $(grep -c ' /sys sysfs rw' /proc/mounts) $(test -e /dev/kmsg; echo $?)\"";
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"))
        .unwrap();
    check(&format!("RUN {look}\n"), &[], "00000000a80425fb 2 0 1");
    let allow = ["--allow", "security.insecure"];
    let expect = format!("{own} 0 1 0");
    check(
        &format!("RUN --security=insecure {look}\n"),
        &allow,
        &expect,
    );
    check(
        &format!("RUN --security=sandbox {look}\n"),
        &allow,
        "00000000a80425fb 2 0 1",
    );
}

#[test]
fn namespaces_are_its_own_but_for_the_network() {
    let links = "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done";
    let inside = printed(
        &format!("FROM busybox\nRUN {{ {links}; }} | sed 's/^/> /'\n"),
        &[],
    );
    let project = Project::new();
    let outside = project.host(links);
    let same: Vec<_> = inside
        .iter()
        .filter(|link| outside.lines().any(|line| line == link.as_str()))
        .collect();
    assert_eq!((inside.len(), same.len()), (6, 1), "{inside:?} {outside}");
    assert!(same[0].starts_with("net:"), "{same:?}");
}

#[test]
fn binds() {
    // Of the context without a word; a file; under other names of the options; read-only.
    let project = Project::with(
        "FROM busybox AS stage\nRUN mkdir -p /d/e && echo stage > /d/f && ln -s /d/f /link && ln -s ../../../../etc /out\n\
         FROM busybox\n\
         RUN --mount=target=/m sed 's/^/> /' /m/f; touch /m/new 2>/dev/null || echo '> ro'\n\
         RUN --mount=type=bind,src=sub/g,dst=/g sed 's/^/> /' /g\n\
         RUN --mount=type=bind,from=stage,source=/d,destination=/m,readwrite echo > /m/e/new; ls /m/e | sed 's/^/> /'\n\
         RUN --mount=type=bind,from=stage,source=/link,target=/file sed 's/^/> link: /' /file\n\
         RUN --mount=type=bind,from=stage,source=/out,target=/inside test -f /inside/passwd && echo '> its own etc'\n\
         RUN --mount=type=bind,from=busybox,source=/bin,target=/tools test -x /tools/busybox && echo '> image'\n\
         RUN --mount=type=bind,from=other,target=/o sed 's/^/> /' /o/h\n\
         RUN --mount=type=bind,from=stage,source=/d,target=/m ls /m/e | wc -l | sed 's/^ */> /'\n",
    );
    project.write("f", "context\n");
    project.write("sub/g", "one file\n");
    project.write("named/h", "named\n");
    let flags = ["--build-context", "other=named"];
    let expect = [
        "context",
        "ro",
        "one file",
        "new",
        "link: stage",
        "its own etc",
        "image",
        "named",
        "0",
    ];
    assert_eq!(lines(&build(&project, &flags)), expect);
    // Part of the key by content, as far as it is mounted.
    let part = Project::with("FROM busybox\nRUN --mount=type=bind,src=sub,dst=/g ls /g\n");
    part.write("f", "one");
    part.write("sub/g", "one");
    build(&part, &[]);
    part.write("f", "another");
    assert_eq!(build(&part, &[]).executed(), Vec::<String>::new());
    part.write("sub/g", "another");
    assert_eq!(build(&part, &[]).executed().len(), 1);
    check_error(
        "RUN --mount=type=bind,source=none,target=/m true\n",
        &[],
        &["none"],
    );
    check_error("RUN --mount=type=bind true\n", &[], &["target"]);
    check_error(
        "RUN --mount=type=bind,from=no-stage-here,target=/m true\n",
        &[],
        &["no-stage-here"],
    );
}

#[test]
fn ids_and_content_of_caches() {
    let project = Project::with("");
    let step = |instructions: &str| {
        project.write("Dockerfile", format!(
            "FROM busybox AS seed\nRUN mkdir -p /d/sub && echo seed > /d/s && chmod 711 /d && ln -s /etc /d/out\n\
             FROM busybox\nWORKDIR /w\n{instructions}\n"
        ));
    };
    let show = |flags: &[&str]| lines(&build(&project, flags)).join("|");
    // The id is the target as it is written, not what it resolves to.
    step("RUN --mount=type=cache,target=rel echo a > rel/f");
    build(&project, &[]);
    step("RUN --mount=type=cache,target=/w/rel echo \"> $(ls /w/rel)\"");
    assert_eq!(show(&[]), "");
    step("RUN --mount=type=cache,target=/x,id=rel echo \"> $(ls /x)\"");
    assert_eq!(show(&[]), "f");
    // What is in it is in no key.
    step("RUN --mount=type=cache,target=/x,id=rel echo b > /x/g");
    build(&project, &[]);
    step("RUN --mount=type=cache,target=/x,id=rel echo \"> $(ls /x)\"");
    assert_eq!(build(&project, &[]).executed(), Vec::<String>::new());
    // A new one is root's; one with a beginning looks like that, whatever the options say.
    step("RUN --mount=type=cache,target=/n stat -c '> %a %u %g' /n");
    assert_eq!(show(&[]), "755 0 0");
    step(
        "RUN --mount=type=cache,target=/s,from=seed,source=/d,mode=0700 echo \"> $(stat -c %a /s) $(ls /s | tr -d '\\n')\"",
    );
    assert_eq!(show(&[]), "711 outssub");
    // It may come out of a context too.
    project.write("named/h", "named");
    step("RUN --mount=type=cache,target=/k,from=other echo \"> $(cat /k/h)\"");
    assert_eq!(show(&["--build-context", "other=named"]), "named");
    // Another beginning is another cache.
    step("RUN --mount=type=cache,target=/s,from=seed,source=/d/sub echo \"> $(ls /s)\"");
    assert_eq!(show(&[]), "");
    step("RUN --mount=type=cache,target=/s,from=seed,source=/d/none true");
    drop(project.kiln(&["build", "."]).code(1).says(&["/d/none"]));
}

#[test]
fn forms_of_secrets() {
    let project = Project::with(
        "FROM busybox\n\
         RUN --mount=type=secret,target=/t/name.txt,mode=0440,uid=5,gid=6 stat -c '> %a %u %g' /t/name.txt; grep -c ' /t/name.txt .*ro' /proc/mounts | sed 's/^/> /'\n\
         RUN --mount=type=secret,source=name.txt sed 's/.*/> default target/' /run/secrets/name.txt\n\
         RUN --mount=type=secret,id=name.txt,env=A,target=/both test \"$A\" = \"$(cat /both)\" && echo '> both'\n\
         RUN --mount=type=secret,id=name.txt,env=A test ! -e /run/secrets && echo '> variable alone'\n",
    );
    project.write("s", "value");
    let flags = ["--secret", "id=name.txt,src=s"];
    let expect = ["440 5 6", "1", "default target", "both", "variable alone"];
    assert_eq!(lines(&build(&project, &flags)), expect);
    project.write("s", vec![b'x'; (500 << 10) + 1]);
    let refused = project.kiln(&["build", "--no-cache", "--secret", "id=name.txt,src=s", "."]);
    drop(refused.code(1).says(&["larger than 512000 bytes"]));
    let one = |options: &str, says: &str| {
        check_error(
            &format!("RUN --mount=type=secret,{options} true\n"),
            &[],
            &[says],
        );
    };
    one("id=a,source=b", "source");
    one("id=a,from=b", "from");
    one("id=a,sharing=locked", "sharing");
}
