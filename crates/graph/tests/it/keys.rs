//! Which fields a cache key depends on (rows K10, K12, K13 and the like): every field is changed,
//! one at a time.

use graph::*;
use oci::Digest;

use crate::samples::{self, text};

/// What a change of one field must do to the op key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    Changes,
    Stays,
}
use Key::{Changes, Stays};

#[track_caller]
fn check(before: &Op, after: &Op, what: &str, expected: Key) {
    assert_ne!(before, after, "{what}: nothing was changed");
    let key = |op: &Op| match op_key(op) == op_key(before) {
        true => Stays,
        false => Changes,
    };
    assert_eq!(key(after), expected, "{what}: key");
    let explained = match op_inputs_for_explain(before) == op_inputs_for_explain(after) {
        true => Stays,
        false => Changes,
    };
    assert_eq!(explained, expected, "{what}: explanation");
    let digest = |op: &Op| {
        let mut builder = Builder::new();
        let edge = builder.add(op.clone(), Vec::new(), Meta::default());
        builder.vertex(edge).digest
    };
    assert_ne!(
        digest(before),
        digest(after),
        "{what}: vertices must differ"
    );
}

#[track_caller]
fn check_exec(what: &str, expected: Key, change: impl Fn(&mut Exec)) {
    let mut exec = samples::exec();
    change(&mut exec);
    check(
        &Op::Exec(Box::new(samples::exec())),
        &Op::Exec(Box::new(exec)),
        what,
        expected,
    );
}

#[test]
fn k10_exec() {
    check_exec("args", Changes, |exec| exec.args[2].push('x'));
    check_exec("env value", Changes, |exec| {
        exec.env.set("NODE_ENV", "test")
    });
    check_exec("env name", Changes, |exec| exec.env.set("MORE", ""));
    check_exec("proxy", Stays, |exec| {
        exec.proxy_env.set("HTTP_PROXY", "http://other")
    });
    check_exec("cwd", Changes, |exec| exec.cwd = text("/other"));
    check_exec("user", Changes, |exec| exec.user = text("root"));
    check_exec("hostname", Changes, |exec| exec.hostname = text("other"));
    check_exec("network", Changes, |exec| exec.network = Network::None);
    check_exec("security", Changes, |exec| {
        exec.security = Security::Insecure
    });
    check_exec("device", Changes, |exec| exec.devices[0].name.push('s'));
    check_exec("device required", Changes, |exec| {
        exec.devices[0].required = false
    });
    check_exec("host name", Changes, |exec| {
        exec.extra_hosts[0].0 = text("cache")
    });
    check_exec("host address", Stays, |exec| {
        exec.extra_hosts[0].1 = text("10.0.0.2")
    });
    check_exec("ulimit", Changes, |exec| exec.limits.ulimits[0].soft = 1);
    check_exec("shm size", Changes, |exec| exec.limits.shm_size = None);
    check_exec("cgroup parent", Changes, |exec| {
        exec.limits.cgroup_parent = None
    });
    check_exec("platform", Changes, |exec| exec.platform.variant = None);
    check_exec("script", Changes, |exec| exec.script = None);
    check_exec("order of args", Changes, |exec| exec.args.swap(0, 1));
}

#[test]
fn k10_mounts() {
    fn cache(exec: &mut Exec) -> &mut CacheMount {
        match &mut exec.mounts[1].kind {
            MountKind::Cache(cache) => cache,
            other => panic!("{other:?}"),
        }
    }
    fn secret(exec: &mut Exec) -> &mut SecretMount {
        match &mut exec.mounts[3].kind {
            MountKind::Secret(secret) => secret,
            other => panic!("{other:?}"),
        }
    }
    check_exec("target", Changes, |exec| {
        exec.mounts[0].target = text("/other")
    });
    check_exec("no mount", Changes, |exec| exec.mounts.clear());
    check_exec("cache id", Stays, |exec| cache(exec).id = text("other"));
    check_exec("sharing", Stays, |exec| {
        cache(exec).sharing = Sharing::Shared
    });
    check_exec("cache readonly", Changes, |exec| {
        cache(exec).readonly = true
    });
    check_exec("cache seed", Changes, |exec| cache(exec).from = None);
    check_exec("cache mode", Changes, |exec| cache(exec).mode = 0o700);
    check_exec("tmpfs size", Changes, |exec| {
        exec.mounts[2].kind = MountKind::Tmpfs { size: None };
    });
    check_exec("secret id", Changes, |exec| secret(exec).id = text("other"));
    check_exec("secret variable", Changes, |exec| secret(exec).env = None);
    check_exec("secret owner", Changes, |exec| secret(exec).uid = 5);
    check_exec("agent id", Changes, |exec| match &mut exec.mounts[4].kind {
        MountKind::Ssh(ssh) => ssh.id = text("other"),
        other => panic!("{other:?}"),
    });
    // The content below the source is the key, by the input's selector; where it lies is not.
    check_exec("bind source", Stays, |exec| {
        match &mut exec.mounts[0].kind {
            MountKind::Bind { source, .. } => *source = text("/moved"),
            other => panic!("{other:?}"),
        }
    });
    check_exec("bind writable", Changes, |exec| {
        match &mut exec.mounts[0].kind {
            MountKind::Bind { writable, .. } => *writable = true,
            other => panic!("{other:?}"),
        }
    });
}

#[track_caller]
fn check_copy(what: &str, expected: Key, change: impl Fn(&mut Copy)) {
    let mut copy = samples::copy();
    change(&mut copy);
    let op = |copy| samples::file(FileAction::Copy(copy));
    check(&op(samples::copy()), &op(copy), what, expected);
}

#[test]
fn k12_copy() {
    // What is selected counts by its content and its effect, so a moved directory hits.
    check_copy("sources", Stays, |copy| {
        copy.sources = vec![text("moved/*.c")]
    });
    check_copy("exclude", Stays, |copy| copy.exclude.clear());
    check_copy("dest", Changes, |copy| copy.dest = text("/other"));
    check_copy("dest is a directory", Changes, |copy| {
        copy.dest_is_dir = false
    });
    check_copy("owner", Changes, |copy| copy.owner = None);
    check_copy("group", Changes, |copy| {
        copy.owner.as_mut().expect("owner").group = None;
    });
    check_copy("reset owner", Changes, |copy| copy.reset_owner = false);
    check_copy("mode", Changes, |copy| copy.mode = None);
    check_copy("symbolic mode", Changes, |copy| {
        copy.mode = Some(ModeChange::Symbolic(text("a+r")));
    });
    check_copy("parents", Changes, |copy| copy.parents = true);
    check_copy("unpack", Changes, |copy| copy.unpack = Unpack::Never);
    check_copy("links", Changes, |copy| copy.follow_dest_links = false);
}

#[test]
fn k19_and_here_documents() {
    let mkdir = |change: &dyn Fn(&mut Mkdir)| {
        let mut mkdir = samples::mkdir();
        change(&mut mkdir);
        samples::file(FileAction::Mkdir(mkdir))
    };
    let before = mkdir(&|_| {});
    check(
        &before,
        &mkdir(&|mkdir| mkdir.path.push('x')),
        "path",
        Changes,
    );
    check(
        &before,
        &mkdir(&|mkdir| mkdir.mode = 0o700),
        "mode",
        Changes,
    );
    let owner = Owner {
        user: Principal::Id(1),
        group: None,
    };
    check(
        &before,
        &mkdir(&|mkdir| mkdir.owner = Some(owner.clone())),
        "owner",
        Changes,
    );
    let mkfile = |change: &dyn Fn(&mut Mkfile)| {
        let mut mkfile = samples::mkfile();
        change(&mut mkfile);
        samples::file(FileAction::Mkfile(mkfile))
    };
    let before = mkfile(&|_| {});
    check(
        &before,
        &mkfile(&|mkfile| mkfile.data.push(0)),
        "data",
        Changes,
    );
    check(
        &before,
        &mkfile(&|mkfile| mkfile.name = text("END")),
        "unused name",
        Stays,
    );
    let before = mkfile(&|mkfile| mkfile.dest_is_dir = true);
    let after = mkfile(&|mkfile| {
        mkfile.dest_is_dir = true;
        mkfile.name = text("END");
    });
    check(&before, &after, "name in a directory", Changes);
}

#[test]
fn k13_to_k15_sources() {
    let image = |change: &dyn Fn(&mut ImageSource)| {
        let mut image = samples::image();
        change(&mut image);
        Op::Source(Source::Image(Box::new(image)))
    };
    let before = image(&|_| {});
    let other: oci::Reference = "mirror.example/busybox".parse().expect("reference");
    check(
        &before,
        &image(&|image| image.reference = other.clone()),
        "reference",
        Stays,
    );
    let layout = || ImageOrigin::Layout(text("l"));
    check(
        &before,
        &image(&|image| image.origin = layout()),
        "origin",
        Stays,
    );
    check(
        &before,
        &image(&|image| image.manifest = Digest::sha256("x")),
        "manifest",
        Changes,
    );
    check(
        &before,
        &image(&|image| image.platform.variant = None),
        "platform",
        Changes,
    );

    let http = |change: &dyn Fn(&mut HttpSource)| {
        let mut http = samples::http();
        change(&mut http);
        Op::Source(Source::Http(http))
    };
    let moved = |http: &mut HttpSource| http.url = text("https://mirror.example/x");
    let pinned = |http: &mut HttpSource| http.checksum = Some(Digest::sha256("x"));
    check(&http(&|_| {}), &http(&moved), "url", Changes);
    check(&http(&|_| {}), &http(&pinned), "checksum", Changes);
    let both = http(&|http| {
        pinned(http);
        moved(http);
    });
    check(&http(&pinned), &both, "url of pinned content", Stays);
    assert!(both.is_pinned() && !http(&moved).is_pinned());

    let git = |change: &dyn Fn(&mut GitSource)| {
        let mut git = samples::git();
        change(&mut git);
        Op::Source(Source::Git(git))
    };
    let branch = |git: &mut GitSource| git.reference = Some(text("next"));
    let resolved = |git: &mut GitSource| git.commit = Some(text("0123"));
    check(&git(&|_| {}), &git(&branch), "branch", Changes);
    let both = git(&|git| {
        resolved(git);
        branch(git);
    });
    check(&git(&resolved), &both, "branch of the same commit", Stays);
    check(
        &git(&|_| {}),
        &git(&|git| git.submodules = false),
        "submodules",
        Changes,
    );
    check(
        &git(&|_| {}),
        &git(&|git| git.subdir.clear()),
        "subdir",
        Changes,
    );
}

#[test]
fn every_field_of_a_selector_counts() {
    let changes: [fn(&mut Selector); 6] = [
        |selector| selector.paths.reverse(),
        |selector| selector.paths[0].pattern = false,
        |selector| selector.exclude.clear(),
        |selector| selector.naming = Naming::Mount,
        |selector| selector.ignore_owner = false,
        |selector| selector.ignore_mode = false,
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut selector = samples::selector();
        change(&mut selector);
        assert_ne!(
            selector_key(&selector),
            selector_key(&samples::selector()),
            "{index}"
        );
    }
}

#[test]
fn an_explanation_reads_well() {
    let list = op_inputs_for_explain(&Op::Exec(Box::new(samples::exec())));
    for (name, value) in [
        ("op", "exec"),
        ("args[2]", "npm ci"),
        ("env.NODE_ENV", "production"),
        ("mounts[0].target", "/src"),
        ("mounts[3].id", "token"),
        ("extra_hosts[0]", "db"),
        ("limits.shm_size", "67108864"),
    ] {
        let found = list.iter().find(|(known, _)| known == name);
        assert_eq!(
            found.map(|(_, value)| value.as_str()),
            Some(value),
            "{name}"
        );
    }
    assert!(list.iter().all(|(_, value)| !value.contains("proxy")));
}
