//! Rows C2 to C25, one instruction each.

use super::check;

const SOURCE: &str = "
    a.txt =a 0600 5:6
    b.txt =b
    run.sh =sh 0755
    app/ 0700 5:6
    app/main.c =main 0640 5:6
    app/sub/ 0750 7:8 !user.k=v
    app/sub/x =x
    lib/y =y
    to-file ->a.txt
    to-dir ->app
    out ->../../../etc/shadow
    broken ->nowhere
    [0] =odd
";

#[test]
fn c2_destinations() {
    for (text, expect) in [
        ("b.txt /new/deep/", "new/deep/b.txt =b"),
        ("b.txt /new/deep", "new/deep =b"),
        ("b.txt /new/.", "new/b.txt =b"),
        ("b.txt /", "b.txt =b"),
        ("lib /x/y", "x/y/y =y"),
        ("b.txt /../../up", "up =b"),
    ] {
        check("", SOURCE, text, expect);
    }
}

#[test]
fn c3_sources_stay_in_the_root() {
    for text in [
        "../b.txt /x",
        "/b.txt /x",
        "../../lib/../b.txt /x",
        "./b.txt/ /x",
    ] {
        check("", SOURCE, text, "x =b");
    }
    check("", SOURCE, "lib/ /x", "x/y =y");
}

#[test]
fn c4_contents_of_directories() {
    check(
        "",
        SOURCE,
        "app /d",
        "d/main.c =main 0640\nd/sub/ 0750 0:0 !user.k=v\nd/sub/x =x",
    );
    check(
        "",
        "a/one/f =1\na/two/f =2\na/two/g =3",
        "a/* /d/",
        "d/f =2\nd/g =3",
    );
    check("", "p/q =1\nr/ 0700\n", ". /", "p/q =1\nr/ 0700");
}

#[test]
fn c5_wildcards() {
    check("", SOURCE, "*.txt /d/", "d/a.txt =a 0600\nd/b.txt =b");
    check("", SOURCE, "[ab].t?t /d/", "d/a.txt =a 0600\nd/b.txt =b");
    check("", SOURCE, "[[]0] /d/", "d/[0] =odd");
    check("", SOURCE, "*/main.c /d/", "d/main.c =main 0640");
    check("", SOURCE, "*.none /d/", "");
    check("", SOURCE, "nodir/* /d/", "");
    check("", SOURCE, "to-dir/*.c /d/", "d/main.c =main 0640");
    check(
        "",
        SOURCE,
        "b* /x",
        "error: \"/broken\": not found (a symbolic link on the way leads to /nowhere)",
    );
    check(
        "",
        SOURCE,
        "a[ /x",
        "error: pattern \"a[\" has a class that is empty or not closed, or ends in a backslash",
    );
}

#[test]
fn c5_missing_sources_are_named_with_what_is_near() {
    check(
        "",
        SOURCE,
        "b.txd /x",
        "error: \"/b.txd\": not found (there is b.txt)",
    );
    check(
        "",
        SOURCE,
        "app/Main.c /x",
        "error: \"/app/Main.c\": not found (there is main.c)",
    );
    check("", SOURCE, "zzz/f /x", "error: \"/zzz/f\": not found");
    check(
        "",
        SOURCE,
        "out /x",
        "error: \"/out\": not found (a symbolic link on the way leads to /etc/shadow)",
    );
}

#[test]
fn c6_files_into_directories() {
    check("d/", SOURCE, "b.txt /d", "d/b.txt =b");
    check("", SOURCE, "b.txt /d", "d =b");
    check("d/b.txt =old 0600 3:4", SOURCE, "b.txt /d", "d/b.txt =b");
    check(
        "d =old",
        SOURCE,
        "b.txt /d/",
        "error: make directory /d: /d is not a directory",
    );
    check(
        "d =old",
        SOURCE,
        "b.txt /d/e/f",
        "error: make directory /d/e: /d is not a directory",
    );
}

#[test]
fn c7_several_sources() {
    check(
        "",
        SOURCE,
        "b.txt lib run.sh /d/",
        "d/b.txt =b\nd/run.sh =sh 0755\nd/y =y",
    );
    check("", SOURCE, "a.txt b.txt /f", "f =b");
    check("", SOURCE, "lib b.txt /d", "d/b.txt =b\nd/y =y");
}

#[test]
fn c8_type_conflicts() {
    check(
        "d/y/z =",
        SOURCE,
        "lib /d",
        "error: copy /lib/y: cannot replace to directory /d/y with file",
    );
    check(
        "b.txt/",
        SOURCE,
        "b.txt /",
        "error: copy /b.txt: cannot replace to directory /b.txt with file",
    );
    check(
        "d =f",
        SOURCE,
        "lib /d",
        "error: copy directory /lib: cannot copy to non-directory: /d",
    );
    check(
        "sub =f",
        SOURCE,
        "app /",
        "error: copy directory /app/sub: cannot copy to non-directory: /sub",
    );
    check(
        "sub ->d\nd/",
        SOURCE,
        "app /",
        "error: copy directory /app/sub: cannot copy to non-directory: /sub",
    );
    check("d/f =1\nd/g =>d/f", "f =2", "f /d/", "d/f =2\nd/g =1");
    check(
        "d/p %fifo\nd/l ->x",
        "p =1\nl =2",
        ". /d/",
        "d/p =1\nd/l =2",
    );
}

#[test]
fn c9_symbolic_links_of_sources() {
    check("", SOURCE, "to-file /d/", "d/to-file =a 0600");
    check(
        "",
        SOURCE,
        "to-dir /d",
        "d/main.c =main 0640\nd/sub/ 0750 0:0 !user.k=v\nd/sub/x =x",
    );
    check(
        "",
        "s/l ->../../../../etc\ns/m ->/a",
        "s /d",
        "d/l ->../../../../etc\nd/m ->/a",
    );
    check("", "s/f =1\ns/l ->f", "s/l* /d/", "d/l =1");
}

#[test]
fn c9_symbolic_links_of_destinations() {
    for (base, text, expect) in [
        ("real/\nd ->real", "b.txt /d/", "real/b.txt =b\nd ->real"),
        ("real/\nd ->/real", "b.txt /d", "real/b.txt =b\nd ->/real"),
        (
            "real/\nx/d ->../../../real",
            "b.txt /x/d/n",
            "real/n =b\nx/d ->../../../real",
        ),
        ("f =old\nd ->f", "b.txt /d", "f =b\nd ->f"),
        ("d ->new/f", "b.txt /d", "new/f =b\nd ->new/f"),
        ("d ->new", "lib /d", "new/y =y\nd ->new"),
        ("real/\nd ->real", "--link b.txt /d", "real/\nd =b"),
        ("l ->d\nd/y ->../k\nk =k", "lib /l", "l ->d\nd/y =y\nk =k"),
    ] {
        check(base, SOURCE, text, expect);
    }
    check(
        "a ->b\nb ->a",
        SOURCE,
        "b.txt /a/x",
        "error: find the destination",
    );
    check(
        "d ->f\nf =",
        SOURCE,
        "lib /d",
        "error: copy directory /lib: cannot copy to non-directory: /f",
    );
    check(
        "real/\nd ->real",
        SOURCE,
        "--link lib /d",
        "error: copy directory /lib: cannot copy to non-directory: /d",
    );
}

#[test]
fn c10_metadata_of_directories() {
    check(
        "",
        SOURCE,
        "--from app /d",
        "d/\nd/main.c =main 0640 5:6\nd/sub/ 0750 7:8 !user.k=v\nd/sub/x =x",
    );
    check(
        "d/ 0711 3:4",
        "s/ 0700\ns/f =1",
        "s /d",
        "d/ 0711 3:4\nd/f =1",
    );
    check(
        "d/sub/ 0700 3:4 !user.old=1 !user.k=0\nd/sub/keep =",
        SOURCE,
        "--from app/ /d/",
        "d/main.c =main 0640 5:6\nd/sub/ 0750 7:8 !user.old=1 !user.k=v\nd/sub/keep =\nd/sub/x =x",
    );
}

#[test]
fn c11_metadata_of_files() {
    let source = "s/a =1 04755 5:6 !security.capability=c\ns/b =>s/a\ns/c =2\n\
                  s/pipe %fifo 0620 1:2\ns/sock %sock 0600\ns/null %chr:1:3 0666 1:2";
    check(
        "",
        source,
        "--from s /d",
        "d/a =1 04755 5:6 !security.capability=c\nd/b =>d/a\nd/c =2\n\
         d/pipe %fifo 0620 1:2\nd/sock %sock 0600\nd/null %chr:1:3 0666 1:2",
    );
    check(
        "",
        source,
        "s /d",
        "d/a =1 04755 !security.capability=c\nd/b =>d/a\nd/c =2\n\
         d/pipe %fifo 0620\nd/sock = 0600\nd/null %chr:1:3 0666",
    );
    check(
        "",
        source,
        "s/a s/b s/c /d/",
        "d/a =1 04755 !security.capability=c\nd/b =>d/a\nd/c =2",
    );
    check(
        "",
        "z =1\na =>z\nm ->t 0777 3:4",
        "--from . /",
        "a =1\nm ->t 0777 3:4\nz =>a",
    );
}

#[test]
fn c12_chown() {
    check(
        "old/",
        SOURCE,
        "--chown=1:2 app /old/new/d",
        "old/\nold/new/ 0755 1:2\nold/new/d/ 0755 1:2\nold/new/d/main.c =main 0640 1:2\n\
         old/new/d/sub/ 0750 1:2 !user.k=v\nold/new/d/sub/x =x 0644 1:2",
    );
    check("", SOURCE, "--from --chown=9 a.txt /f", "f =a 0600 9:9");
    check(
        "d/ 0700 3:4",
        SOURCE,
        "--chown=9 lib /d",
        "d/ 0700 3:4\nd/y =y 0644 9:9",
    );
    check("", "l/m ->x", "--chown=9 l /", "m ->x 0777 9:9");
}

#[test]
fn c13_chmod() {
    check(
        "",
        SOURCE,
        "--chmod=640 a.txt /n/d/",
        "n/ 0640\nn/d/ 0640\nn/d/a.txt =a 0640",
    );
    check("", SOURCE, "--chmod=1750 lib /d", "d/ 0750\nd/y =y 01750");
    check(
        "d/ 0700",
        SOURCE,
        "--chmod=0777 lib /d",
        "d/ 0700\nd/y =y 0777",
    );
    check(
        "",
        SOURCE,
        "--chmod=u=rwX,go=rX app /d",
        "d/\nd/main.c =main\nd/sub/ 0755 0:0 !user.k=v\nd/sub/x =x",
    );
    check(
        "",
        "s/ 0700\ns/l ->x\ns/f =1 0600",
        "--chmod=go+r s /n/",
        "n/l ->x\nn/f =1 0644",
    );
    check(
        "sub/ 0711 1:1",
        SOURCE,
        "--chmod=700 app /",
        "main.c =main 0700\nsub/ 0700 0:0 !user.k=v\nsub/x =x 0700",
    );
}

#[test]
fn c22_parents() {
    for (text, expect) in [
        (
            "--parents app/sub/x /d/",
            "d/app/ 0700\nd/app/sub/ 0750 0:0 !user.k=v\nd/app/sub/x =x",
        ),
        (
            "--parents app/./sub/x /d/",
            "d/sub/ 0750 0:0 !user.k=v\nd/sub/x =x",
        ),
        ("--parents ./lib /d", "d/lib/y =y"),
        ("--parents lib/././y /d", "d/y =y"),
        (
            "--parents **/*.c /d",
            "d/app/ 0700\nd/app/main.c =main 0640",
        ),
        (
            "--parents a?p/./* /d",
            "d/main.c =main 0640\nd/sub/ 0750 0:0 !user.k=v\nd/sub/x =x",
        ),
        ("--parents lib/./ /d", "d/y =y"),
        ("--parents to-dir /d", "d/to-dir ->app"),
        ("--parents nope/* /d", "d/"),
        ("--parents nope/x /d", "error: \"/nope/x\": not found"),
        (
            "--parents app/mian.c /d",
            "error: \"/app/mian.c\": not found (there is main.c)",
        ),
        (
            "--parents --chmod=711 app/main.c /d",
            "d/ 0711\nd/app/ 0711\nd/app/main.c =main 0711",
        ),
        (
            "--parents lib/y app/main.c /d",
            "d/app/ 0700\nd/app/main.c =main 0640\nd/lib/y =y",
        ),
    ] {
        check("", SOURCE, text, expect);
    }
    let base = "app/ 0711 3:4";
    check(
        base,
        SOURCE,
        "--parents app/main.c /",
        "app/ 0700 3:4\napp/main.c =main 0640",
    );
    check(
        base,
        SOURCE,
        "--parents --chmod=640 app/main.c /",
        "app/ 0711 3:4\napp/main.c =main 0640",
    );
}

#[test]
fn c23_excludes() {
    let source = "s/a.md =\ns/b =\ns/m/c.md =\ns/m/d/e.md =\ns/m/d/f =\ntop.md =\ntop.c =";
    for (text, expect) in [
        (
            "--exclude=*.md s /d",
            "d/b =\nd/m/c.md =\nd/m/d/e.md =\nd/m/d/f =",
        ),
        ("--exclude=**/*.md s /d", "d/b =\nd/m/d/f ="),
        ("--exclude=m s /d", "d/a.md =\nd/b ="),
        (
            "--exclude=m --exclude=!m/d/f s /d",
            "d/a.md =\nd/b =\nd/m/d/f =",
        ),
        ("--exclude=* s /d", "d/"),
        ("--exclude=*.md to* /d/", "d/top.c ="),
        ("--exclude=*.md top.md /d/", "d/top.md ="),
        ("--exclude=s * /d/", "d/top.md =\nd/top.c ="),
        (
            "--parents --exclude=**/d s/**/*.md /x",
            "x/s/a.md =\nx/s/m/c.md =",
        ),
    ] {
        check("", source, text, expect);
    }
}

#[test]
fn modes_of_git() {
    let source = "s/ 0700\ns/a =1 0664\ns/b =2 0700\ns/t/ 0775\ns/t/c =3 0600\ns/l ->a";
    check(
        "",
        source,
        "--git s /d",
        "d/a =1\nd/b =2 0755\nd/t/c =3\nd/l ->a",
    );
}
