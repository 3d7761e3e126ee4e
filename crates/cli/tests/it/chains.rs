//! More layers than an overlay takes.

use std::fs;

use serde_json::Value;

use crate::harness::Project;

/// So many steps, each with a file of its own, and among them some that take things away.
fn steps(count: usize) -> String {
    let mut file = String::from(
        "FROM busybox\nRUN mkdir -p /gone/deep /again && touch /gone/deep/a /again/old /linked && ln /linked /twin\n",
    );
    for number in 0..count {
        match number {
            70 => file.push_str("RUN rm -r /gone /f/3 && chmod 640 /f/4\n"),
            80 => file.push_str("RUN rm -r /again && mkdir /again && echo > /again/new\n"),
            90 => file.push_str("RUN mkdir -p /gone && echo > /gone/b && rm /twin\n"),
            _ => file.push_str(&format!("COPY <<EOF /f/{number}\n{number}\nEOF\n")),
        }
    }
    file
}

/// Digests of the layers of the image, uncompressed.
fn layers(project: &Project) -> Vec<Value> {
    let shown = project.kiln(&["inspect", "image"]).success().stdout;
    let image: Value = serde_json::from_str(&shown).unwrap();
    image[0]["RootFS"]["Layers"].as_array().unwrap().clone()
}

#[test]
fn a_chain_longer_than_an_overlay_takes() {
    let project = Project::with(&steps(520));
    project.build();
    let without = layers(&project);
    let look = "RUN cat /f/0 /f/1 /f/518 /f/519 && ls /gone /again && stat -c %a /f/4 && \
        ! test -e /f/3 && ! test -e /twin && ls /f | wc -l && rm /f/0\n";
    project.write("Dockerfile", steps(520) + look);
    let done = project.build();
    assert_eq!(done.executed().len(), 1, "{:?}", done.executed());
    let printed: Vec<&str> = done
        .stderr
        .lines()
        .filter(|line| line.starts_with('#'))
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    let expected = [
        "0", "1", "518", "519", "/again:", "new", "/gone:", "b", "640", "516",
    ];
    let printed: Vec<&str> = printed
        .into_iter()
        .filter(|w| expected.contains(w))
        .collect();
    assert_eq!(printed, expected, "{}", done.stderr);
    // What is mounted is not what is shipped.
    let with = layers(&project);
    assert_eq!(with[..without.len()], without);
    assert_eq!(with.len(), without.len() + 1);
    assert_eq!(project.shell("ls /f | wc -l; cat /f/519"), "515\n519\n");
    drop(project.kiln(&["doctor"]).success());
    // Merged once: the next step finds it.
    let merged = |project: &Project| {
        let du = project.kiln(&["du", "--verbose"]).success().stdout;
        du.matches("layers of a long chain").count()
    };
    let count = merged(&project);
    assert!(count > 0);
    project.write("Dockerfile", steps(520) + look + "RUN test -e /f/1\n");
    project.build();
    assert_eq!(merged(&project), count);
    assert!(
        fs::read_dir(project.store().join("tmp"))
            .unwrap()
            .next()
            .is_none()
    );
}
