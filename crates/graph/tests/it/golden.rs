//! Digests that may not change: a key written by one version is looked up by the next. Whoever
//! changes the encoding on purpose gives it another version and writes the file anew
//! (`KILN_UPDATE=1`).

use std::fmt::Write as _;
use std::path::Path;

use graph::*;

use crate::samples;

#[test]
fn digests_are_pinned() {
    let mut lines = String::new();
    for (name, op) in samples::ops() {
        let mut builder = Builder::new();
        let edge = builder.add(op.clone(), Vec::new(), Meta::default());
        let digest = builder.vertex(edge).digest;
        writeln!(lines, "vertex {name} {digest}").expect("String");
        writeln!(lines, "op {name} {}", hex(&op_key(&op))).expect("String");
    }
    let selector = hex(&selector_key(&samples::selector()));
    writeln!(lines, "selector {selector}").expect("String");
    let mut builder = Builder::new();
    let image = builder.add(samples::ops().remove(0).1, Vec::new(), Meta::default());
    let local = builder.add(samples::ops().remove(1).1, Vec::new(), Meta::default());
    let inputs = vec![
        Input::chained(image),
        Input::content(local, samples::selector()),
    ];
    let copied = builder.add(samples::ops().remove(5).1, inputs, Meta::default());
    let digest = builder.vertex(copied).digest;
    writeln!(lines, "vertex with inputs {digest}").expect("String");
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/graph-digests.txt");
    if std::env::var_os("KILN_UPDATE").is_some() {
        std::fs::write(&golden, &lines).expect("write");
    }
    let expected = std::fs::read_to_string(&golden).expect("golden file");
    assert_eq!(lines, expected);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
