//! Grants of subordinate ids and id maps, as texts.

use sys::user_namespace::{
    IdMapping, IdRange, parse_getsubids, parse_grants, parse_map, user_name,
};

#[track_caller]
fn check(text: &str, name: Option<&str>, expect: &[(u32, u32)]) {
    let expect: Vec<IdRange> = expect
        .iter()
        .map(|&(start, count)| IdRange { start, count })
        .collect();
    assert_eq!(parse_grants(text, name, 1000), expect);
}

#[test]
fn grants_by_name_and_by_number() {
    let text = "root:1:2\nann:100000:65536\n1000:300000:10\n\nann:bad:1\nann:5:0\nann:1:2:3\n";
    check(text, Some("ann"), &[(100_000, 65_536), (300_000, 10)]);
    check(text, None, &[(300_000, 10)]);
    check(text, Some("bob"), &[(300_000, 10)]);
    check("", Some("ann"), &[]);
}

#[test]
fn the_program_s_answer() {
    let ranges = parse_getsubids("0: ann 100000 65536\n1: ann 5 6\nError\n");
    assert_eq!(
        ranges,
        [
            IdRange {
                start: 100_000,
                count: 65_536
            },
            IdRange { start: 5, count: 6 }
        ]
    );
}

#[test]
fn maps() {
    let mapping = IdMapping {
        inside: 0,
        outside: 1000,
        count: 1,
    };
    assert_eq!(parse_map("         0       1000          1\n"), [mapping]);
}

#[test]
fn users_have_names() {
    assert_eq!(user_name(0).as_deref(), Some("root"));
    assert_eq!(user_name(4_000_000_000), None);
}
