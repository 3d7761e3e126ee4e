//! Trees that look like the kernel's, and the kernel's own.

use super::*;
use std::process::{Child, Command};

/// A tree that looks as the kernel's does: each group with its controllers, those that it gives
/// to its children, and its processes.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(groups: &[(&str, &str, &str, &str)]) -> Tree {
        let folder = tempfile::tempdir().unwrap();
        for (path, here, given, processes) in groups {
            let group = folder.path().join(path);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("cgroup.controllers"), here).unwrap();
            fs::write(group.join("cgroup.subtree_control"), given).unwrap();
            fs::write(group.join("cgroup.procs"), processes).unwrap();
        }
        Tree(folder)
    }

    fn hierarchy(&self, version: Version, controllers: &str, own: &str) -> Hierarchy {
        Hierarchy {
            version,
            controllers: controllers.split(',').map(str::to_owned).collect(),
            mount: self.0.path().to_owned(),
            own: self.0.path().join(own),
        }
    }

    fn given(&self, group: &str) -> String {
        let file = self.0.path().join(group).join("cgroup.subtree_control");
        fs::read_to_string(file).unwrap()
    }

    /// What is found, one line each: the parent below the tree, then the settings.
    fn show(&self, found: Result<Groups, GroupError>) -> Vec<String> {
        let groups = match found {
            Ok(groups) => groups,
            Err(error) => {
                let top = self.0.path().display().to_string();
                return vec![format!("error: {}", error.to_string().replace(&top, ""))];
            }
        };
        let line = |node: &Node| {
            let settings = node.settings.iter();
            let settings = settings.map(|setting| format!("{}={}", setting.file, setting.value));
            let parent = node.parent.strip_prefix(self.0.path()).unwrap();
            format!(
                "/{} {}",
                parent.display(),
                settings.collect::<Vec<_>>().join(" ")
            )
        };
        groups.cgroup.nodes.iter().map(line).collect()
    }
}

fn limits() -> Resources {
    Resources {
        memory: Some(1 << 20),
        pids: Some(9),
        ..Resources::default()
    }
}

const SET: &str = "memory.max=1048576 memory.swap.max=1048576 pids.max=9";

#[test]
fn the_nearest_group_that_can_be_divided() {
    let all = "cpuset cpu io memory pids\n";
    let tree = Tree::new(&[
        ("", all, "cpu memory pids\n", "1\n2\n"),
        ("user.slice", "cpu memory pids\n", "memory\n", ""),
        ("user.slice/session", "memory\n", "", "70\n71\n"),
    ]);
    let here = [tree.hierarchy(Version::Two, "", "user.slice/session")];
    let found = tree.show(find(&here, &limits(), None, 71));
    assert_eq!(found, [format!("/user.slice {SET}")]);
    assert!(tree.given("user.slice").starts_with("+pids"));
    // Nothing to be given: nothing is written.
    assert_eq!(tree.given(""), "cpu memory pids\n");
    let set = Resources {
        cpuset_cpus: Some("0".into()),
        ..Resources::default()
    };
    let found = tree.show(find(&here, &set, None, 71));
    assert_eq!(found, ["/ cpuset.cpus=0"]);
    assert!(tree.given("").starts_with("+cpuset"));
}

#[test]
fn what_is_not_delegated_is_named() {
    let tree = Tree::new(&[
        ("", "cpu memory\n", "memory\n", "1\n"),
        ("user.slice", "memory\n", "", "70\n71\n"),
    ]);
    // As in a container, or as an ordinary user who can write no further up.
    let mut here = tree.hierarchy(Version::Two, "", "user.slice");
    here.mount.push("user.slice");
    let error = divisible(&here, &[Controller::Cpu], 71).unwrap_err();
    assert!(error.hint().unwrap().contains("Delegate=cpu cpuset"));
    let expect = "error: get the controllers cpu of control groups below /user.slice: they \
                  are not delegated";
    assert_eq!(tree.show(Err(error)), [expect]);
    let pids = Resources {
        pids: Some(9),
        ..Resources::default()
    };
    let found = tree.show(find(&[here], &pids, None, 71));
    let expect = "error: this kernel shows no controller `pids` of control groups";
    assert_eq!(found, [expect]);
}

#[test]
fn parents_are_made_and_given_controllers() {
    let tree = Tree::new(&[
        ("", "cpu memory pids\n", "", "1\n"),
        ("a.slice", "memory pids\n", "memory\n", ""),
        ("a.slice/a-b.slice", "memory pids\n", "", ""),
    ]);
    let here = [tree.hierarchy(Version::Two, "", "")];
    let found = tree.show(find(&here, &limits(), Some("a-b.slice"), 1));
    assert_eq!(found, [format!("/a.slice/a-b.slice {SET}")]);
    assert_eq!(tree.given(""), "+memory +pids");
    assert!(tree.given("a.slice").starts_with("+pids"));
    assert_eq!(tree.given("a.slice/a-b.slice"), "+memory +pids");
    // Without limits, the parent's alone; whatever they are of.
    let found = tree.show(find(&here, &Resources::default(), Some("/a.slice"), 1));
    assert_eq!(found, ["/a.slice "]);
    let other = Tree::new(&[("", "io\n", "", "1\n"), ("a", "io\n", "", "")]);
    let here = [other.hierarchy(Version::Two, "", "")];
    let found = other.show(find(&here, &Resources::default(), Some("a"), 1));
    assert_eq!(found, ["/a "]);
}

#[test]
fn trees_of_version_1() {
    let memory = Tree::new(&[("own", "", "", "")]);
    let found = find(
        &[memory.hierarchy(Version::One, "memory,pids", "own")],
        &limits(),
        None,
        1,
    );
    let expect =
        "/own memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=2097152 pids.max=9";
    assert_eq!(memory.show(found), [expect]);
    let sets = Tree::new(&[("own", "", "", ""), ("p/q", "", "", "")]);
    for (file, text) in [("cpuset.cpus", "0-3\n"), ("cpuset.mems", "0\n")] {
        fs::write(sets.0.path().join(file), text).unwrap();
        fs::write(sets.0.path().join("own").join(file), text).unwrap();
        fs::write(sets.0.path().join("p/q").join(file), "\n").unwrap();
        fs::write(sets.0.path().join("p").join(file), "\n").unwrap();
    }
    let here = [sets.hierarchy(Version::One, "cpuset", "own")];
    let set = |text: &str| Resources {
        cpuset_cpus: Some(text.into()),
        ..Resources::default()
    };
    let found = sets.show(find(&here, &set("1,3"), None, 1));
    assert_eq!(found, ["/own cpuset.cpus=1,3 cpuset.mems=0"]);
    let found = sets.show(find(&here, &set("0-1"), Some("p/q"), 1));
    assert_eq!(found, ["/p/q cpuset.cpus=0-1 cpuset.mems=0"]);
    let found = sets.show(find(&here, &set("2-4"), None, 1));
    let expect = "error: requested processors are not available: requested 2-4, available: 0-3";
    assert_eq!(found, [expect]);
}

#[test]
fn names_of_parents() {
    #[track_caller]
    fn check(text: &str, expect: Option<&str>) {
        let found = parent_path(text).ok();
        assert_eq!(found.as_deref(), expect.map(Path::new), "{text}");
    }
    check("a", Some("a"));
    check("/a/./b/", Some("a/b"));
    check("a-b-c.slice", Some("a.slice/a-b.slice/a-b-c.slice"));
    check("/x/a-b.slice", Some("x/a-b.slice"));
    check("../a", None);
    check("/", None);
    check("", None);
}

#[test]
fn lists_of_numbers() {
    #[track_caller]
    fn check(text: &str, expect: Option<&[u32]>) {
        let found = numbers(text).map(|all| all.into_iter().collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expect, "{text}");
    }
    check("0", Some(&[0]));
    check("0-2,7", Some(&[0, 1, 2, 7]));
    check("2-1", None);
    check("", None);
    check("a", None);
    check("0-4294967295", None);
}

struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Over the machine's own tree, for one of its controllers that kiln has no use for, if need be.
#[test]
fn the_kernel_lets_a_group_be_divided_when_it_is_empty() {
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let trees = hierarchy::parse(
        &read("/proc/self/mountinfo"),
        &read("/proc/self/cgroup"),
        Path::is_dir,
    );
    let tree = trees.iter().find(|tree| tree.version == Version::Two);
    let controllers = tree.map(|tree| words(&tree.mount.join("cgroup.controllers")).unwrap());
    let root = sys::process::geteuid().is_root();
    let (Some(tree), Some([name, ..]), true) = (tree, controllers.as_deref(), root) else {
        assert!(std::env::var_os("KILN_REQUIRE").is_none(), "no version 2");
        return;
    };
    give(&tree.mount, &to_give(&tree.mount, &[name]).unwrap()).unwrap();
    let parent = LockedGroup::create(&tree.mount).unwrap();
    let sleep = || Sleeper(Command::new("sleep").arg("60").spawn().unwrap());
    let (one, two) = (sleep(), sleep());
    parent.take_in(one.0.id()).unwrap();
    parent.take_in(two.0.id()).unwrap();
    let path = &parent.path;
    let refused = divide(path, &[name], one.0.id()).unwrap_err();
    let busy = matches!(&refused, GroupError::Refused { source, .. }
        if source.kind() == io::ErrorKind::ResourceBusy);
    assert!(busy, "{refused:?}");
    assert!(refused.hint().unwrap().contains("Delegate=yes"));
    drop(two);
    // The one that is left moves out of the way.
    let home = divide(path, &[name], one.0.id())
        .unwrap()
        .expect("it moved");
    assert_eq!(
        words(&path.join("cgroup.subtree_control")).unwrap(),
        [name.as_str()]
    );
    assert_eq!(words(&path.join("cgroup.procs")).unwrap(), [""; 0]);
    assert!(is_alone(&home.path, one.0.id()));
    // Somebody else finds it divided.
    assert!(divide(path, &[name], one.0.id()).unwrap().is_none());
    drop(one);
}
