//! `tests/cases/*.dockerfile`: each is parsed, printed and compared with the `.expected` file
//! beside it. `KILN_UPDATE=1 cargo test` writes those files anew.

use std::path::Path;

use dockerfile::parse;

use crate::dump::dump;

#[track_caller]
fn check(path: &Path) {
    let source = std::fs::read(path).expect("a case is readable");
    let actual = dump(&parse(&source));
    let expected_path = path.with_extension("expected");
    if std::env::var_os("KILN_UPDATE").is_some() {
        std::fs::write(&expected_path, &actual).expect("a case is writable");
    }
    let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
    assert!(actual == expected, "{}: got\n{actual}", path.display());
}

#[test]
fn every_case_parses_as_expected() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("the cases are there") {
        let path = entry.expect("the cases are listed").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "dockerfile")
        {
            check(&path);
            count += 1;
        } else {
            assert!(
                path.with_extension("dockerfile").exists(),
                "{} has no case",
                path.display()
            );
        }
    }
    assert!(count > 10, "only {count} cases were found");
}
