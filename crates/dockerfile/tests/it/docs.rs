//! `docs/checks.md` is written from the table of checks. `KILN_UPDATE=1 cargo test` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use dockerfile::lint::{Level, Rule};

const HEAD: &str = "\
# Build checks

Every build reports these findings as warnings; `kiln build --check` reports them without building, and its exit code is 1 when there are any.

* `# check=skip=RuleA,RuleB` among the directives at the head of a Dockerfile switches checks off, `# check=skip=all` all of them.
* The same comment directly above an instruction switches them off for this instruction.
* `# check=error=true` makes every finding an error that fails the build.
* `# check=experimental=RuleA` (or `all`) switches experimental checks on, whatever `skip` says. Parts are joined with `;`.
* `--build-arg BUILDKIT_DOCKERFILE_CHECK=…` takes the place of the directive.

The first 22 have the names and triggers of BuildKit's checks; the others are kiln's own. `--check` also says how many files and bytes
`ChownDuplicatesCopy` is about, and it alone looks for `IgnorePatternMatchesNothing`: both take a walk through the context.

| check | reported | what it finds |
|---|---|---|
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for row in Rule::TABLE {
        let reported = match row.level {
            Level::Warning => "always",
            Level::Experimental => "when asked for",
        };
        let (name, text) = (row.name, row.description);
        writeln!(page, "| `{name}` | {reported} | {text} |").expect("a String takes any text");
    }
    page
}

#[test]
fn the_page_of_checks_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/checks.md");
    let expected = page();
    if std::env::var_os("KILN_UPDATE").is_some() {
        std::fs::write(&path, &expected).expect("the page is writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/checks.md is old: KILN_UPDATE=1 writes it anew"
    );
    assert_eq!(Rule::TABLE.len(), 24);
}
