//! Equal vertices are one vertex.

use graph::*;

use crate::samples;

fn meta(name: &str, no_cache: bool) -> Meta {
    Meta {
        name: name.to_owned(),
        no_cache,
        ..Meta::default()
    }
}

#[test]
fn names_do_not_keep_vertices_apart() {
    let mut builder = Builder::new();
    let image = || samples::ops().remove(0).1;
    let one = builder.add(image(), Vec::new(), meta("one", false));
    let two = builder.add(image(), Vec::new(), meta("two", true));
    assert_eq!(one, two);
    let vertex = builder.vertex(one);
    assert_eq!(
        (vertex.meta.name.as_str(), vertex.meta.no_cache),
        ("one", true)
    );
}

#[test]
fn inputs_and_their_keys_keep_vertices_apart() {
    let mut builder = Builder::new();
    let mut ops = samples::ops().into_iter().map(|(_, op)| op);
    let image = builder.add(ops.next().expect("image"), Vec::new(), Meta::default());
    let local = builder.add(ops.next().expect("local"), Vec::new(), Meta::default());
    let mut add = |inputs| builder.add(Op::Merge, inputs, Meta::default());
    let edges = [
        add(vec![Input::chained(image), Input::chained(local)]),
        add(vec![Input::chained(local), Input::chained(image)]),
        add(vec![Input::chained(image)]),
        add(vec![
            Input::chained(image),
            Input::content(local, samples::selector()),
        ]),
    ];
    for (index, edge) in edges.iter().enumerate() {
        assert!(!edges[..index].contains(edge), "{index}");
    }
    let again = add(vec![Input::chained(image)]);
    assert_eq!(again, edges[2]);
    let definition = builder.finish();
    let mask = definition.reachable(&[edges[2]]);
    assert_eq!(mask, [true, false, false, false, true, false]);
}

#[test]
fn absorbing_moves_edges_and_files() {
    let graph = |file: &str, command: &str| {
        let mut builder = Builder::new();
        let file = builder.add_file(file, "FROM x".into());
        let span = Span {
            file,
            start: 0,
            end: 4,
        };
        let spanned = Meta {
            spans: vec![span],
            ..Meta::default()
        };
        let image = builder.add(samples::ops().remove(0).1, Vec::new(), spanned.clone());
        let mut exec = samples::exec();
        exec.args.push(command.to_owned());
        builder.add(
            Op::Exec(Box::new(exec)),
            vec![Input::chained(image)],
            spanned,
        );
        builder.finish()
    };
    let mut builder = Builder::new();
    assert_eq!(builder.absorb(graph("a", "1")).len(), 2);
    let moved = builder.absorb(graph("b", "2"));
    let definition = builder.finish();
    assert_eq!(definition.vertices().len(), 3, "the image is shared");
    let exec = definition.vertex(moved[1]);
    assert_eq!(exec.inputs[0].edge, moved[0]);
    let file = definition.sources().get(exec.meta.spans[0].file);
    assert_eq!(file.map(|file| file.name.as_str()), Some("b"));
}

#[test]
fn dumps_are_stable_and_without_digests_in_text() {
    let mut builder = Builder::new();
    let mut exec = samples::exec();
    exec.mounts.truncate(1);
    let base = builder.add(
        samples::ops().remove(0).1,
        Vec::new(),
        meta("FROM busybox", false),
    );
    let inputs = vec![
        Input::chained(base),
        Input::content(base, samples::selector()),
    ];
    builder.add(Op::Exec(Box::new(exec)), inputs, meta("RUN npm ci", true));
    let definition = builder.finish();
    let text = definition.to_string();
    let digest = definition.vertices()[1].digest.to_string();
    assert!(!text.contains(&digest));
    assert!(
        text.contains("v1 exec  RUN npm ci  (no cache)\n  input 0: v0\n"),
        "{text}"
    );
    let json = definition.to_json();
    assert_eq!(json["vertices"][1]["digest"], digest);
    assert_eq!(json["vertices"][1]["fields"]["args"][2], "npm ci");
    assert_eq!(
        json["vertices"][1]["inputs"][1]["key"]["content"]["naming"],
        "contents"
    );
}
