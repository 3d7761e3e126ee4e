//! `--chmod`: octal and symbolic permission changes.
//!
//! The grammar is chmod(1)'s with an umask of 0, so that `+x` is `a+x` on every machine. Two
//! details of the symbolic form follow BuildKit's reading: `u+t` sets the sticky bit as `a+t` does
//! (`o+t` does not), and `=` clears setuid and setgid of the classes it names, on directories too.
//! `X` counts in every operation, as chmod(1) has it.

/// A change of permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// The bits are these: 0 to 0o7777.
    Octal(u32),
    /// The bits are changed step by step.
    Symbolic(SymbolicMode),
}

/// The steps of a parsed symbolic mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolicMode(Vec<Step>);

/// A text that is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mode {text:?} is neither octal (0 to 7777) nor symbolic (such as u=rwX,go=rX)")]
pub struct InvalidMode {
    /// The text.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Set(u32),
    Clear(u32),
    /// Only for directories and what was executable by anyone before the first step.
    SetIfSearchable(u32),
    ClearIfSearchable(u32),
    /// Takes the `rwx` bits that class `from` has at this moment to the classes in `to`.
    Copy {
        from: Class,
        to: u32,
        operator: Operator,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    User,
    Group,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Assign,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o0007;
const EVERYONE: u32 = USER | GROUP | OTHER;
const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const RWX: u32 = 0o777;

impl ModeChange {
    /// Parses what stands behind `--chmod=`.
    ///
    /// # Errors
    /// When it is neither octal in range nor symbolic.
    pub fn parse(text: &str) -> Result<ModeChange, InvalidMode> {
        let invalid = || InvalidMode {
            text: text.to_owned(),
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let octal = text.bytes().all(|b| b.is_ascii_digit());
            let mode = u32::from_str_radix(text, 8)
                .ok()
                .filter(|&m| octal && m <= 0o7777);
            return mode.map(ModeChange::Octal).ok_or_else(invalid);
        }
        parse_symbolic(text.as_bytes())
            .map(|steps| ModeChange::Symbolic(SymbolicMode(steps)))
            .ok_or_else(invalid)
    }

    /// The mode of an inode that had `mode`. Never ask for a symbolic link: they have none.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            ModeChange::Octal(mode) => *mode,
            ModeChange::Symbolic(symbolic) => symbolic.apply(mode, is_dir),
        }
    }

    /// The mode of directories that are made on the way to a destination: the permission bits of
    /// an octal change; a symbolic one has nothing to change there and leaves 0755.
    pub fn of_created_parents(&self) -> u32 {
        match self {
            ModeChange::Octal(mode) => mode & RWX,
            ModeChange::Symbolic(_) => 0o755,
        }
    }
}

impl SymbolicMode {
    fn apply(&self, before: u32, is_dir: bool) -> u32 {
        let searchable = is_dir || before & 0o111 != 0;
        let mut mode = before;
        for step in &self.0 {
            match *step {
                Step::Set(bits) => mode |= bits,
                Step::Clear(bits) => mode &= !bits,
                Step::SetIfSearchable(bits) if searchable => mode |= bits,
                Step::ClearIfSearchable(bits) if searchable => mode &= !bits,
                Step::SetIfSearchable(_) | Step::ClearIfSearchable(_) => {}
                Step::Copy { from, to, operator } => {
                    let bits = match from {
                        Class::User => mode >> 6,
                        Class::Group => mode >> 3,
                        Class::Other => mode,
                    } & 0o7;
                    let spread = (bits << 6 | bits << 3 | bits) & to;
                    mode = match operator {
                        Operator::Add => mode | spread,
                        Operator::Remove => mode & !spread,
                        Operator::Assign => mode & !(to & RWX) | spread,
                    };
                }
            }
        }
        mode
    }
}

/// `[ugoa]*([-+=]([rwxXst]*|[ugo]*))+` separated by commas.
fn parse_symbolic(text: &[u8]) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for clause in text.split(|&b| b == b',') {
        let end = clause.iter().position(|b| !b"ugoa".contains(b))?;
        let who = clause[..end].iter().fold(0, |who, b| {
            who | match b {
                b'u' => USER,
                b'g' => GROUP,
                b'o' => OTHER,
                _ => EVERYONE,
            }
        });
        let mut rest = &clause[end..];
        while let Some((&operator, tail)) = rest.split_first() {
            let operator = match operator {
                b'+' => Operator::Add,
                b'-' => Operator::Remove,
                b'=' => Operator::Assign,
                _ => return None,
            };
            let end = tail
                .iter()
                .position(|b| b"+-=".contains(b))
                .unwrap_or(tail.len());
            push_steps(&mut steps, who, operator, &tail[..end])?;
            rest = &tail[end..];
        }
    }
    Some(steps)
}

fn push_steps(steps: &mut Vec<Step>, who: u32, operator: Operator, what: &[u8]) -> Option<()> {
    let named = if who == 0 { EVERYONE } else { who };
    // Others alone own neither set-id nor sticky.
    let special = named & (USER | GROUP) != 0;
    let (mut bits, mut searchable) = (0, 0);
    let mut copies = Vec::new();
    for &b in what {
        match b {
            b'r' => bits |= 0o444 & named,
            b'w' => bits |= 0o222 & named,
            b'x' => bits |= 0o111 & named,
            b'X' => searchable |= 0o111 & named,
            b's' => bits |= SET_ID & named,
            b't' if special => bits |= STICKY,
            b't' => {}
            b'u' => copies.push(Class::User),
            b'g' => copies.push(Class::Group),
            b'o' => copies.push(Class::Other),
            _ => return None,
        }
    }
    if operator == Operator::Assign && copies.is_empty() {
        steps.push(Step::Clear(named | bits));
    }
    let remove = operator == Operator::Remove;
    steps.push(if remove {
        Step::Clear(bits)
    } else {
        Step::Set(bits)
    });
    if searchable != 0 {
        steps.push(match remove {
            true => Step::ClearIfSearchable(searchable),
            false => Step::SetIfSearchable(searchable),
        });
    }
    steps.extend(copies.into_iter().map(|from| Step::Copy {
        from,
        to: named,
        operator,
    }));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, file: (u32, u32), dir: (u32, u32)) {
        let change = ModeChange::parse(text).unwrap();
        let got = (change.apply(file.0, false), change.apply(dir.0, true));
        assert_eq!(
            got,
            (file.1, dir.1),
            "{text}: {:04o} and {:04o}",
            got.0,
            got.1
        );
    }

    #[test]
    fn octal_replaces_everything() {
        check("755", (0o4644, 0o755), (0o2700, 0o755));
        check("07777", (0o644, 0o7777), (0, 0o7777));
        check("0", (0o644, 0), (0o755, 0));
    }

    #[test]
    fn symbolic_changes() {
        // text, file before and after, directory before and after
        for (text, file, dir) in [
            ("u=rwX,go=rX", (0o664, 0o644), (0o775, 0o755)),
            ("u=rwX,go=rX", (0o775, 0o755), (0o700, 0o755)),
            ("+x", (0o644, 0o755), (0o644, 0o755)),
            ("a-w", (0o666, 0o444), (0o777, 0o555)),
            ("g=u", (0o640, 0o660), (0o750, 0o770)),
            ("go=u-w", (0o770, 0o755), (0o700, 0o755)),
            ("go=", (0o777, 0o700), (0o2777, 0o700)),
            ("=", (0o777, 0), (0o777, 0)),
            ("+", (0o421, 0o421), (0o421, 0o421)),
            ("u+s,g+s", (0o755, 0o6755), (0o755, 0o6755)),
            ("+s", (0o755, 0o6755), (0o755, 0o6755)),
            ("o+s", (0o755, 0o755), (0o755, 0o755)),
            ("u=rwx", (0o4611, 0o711), (0o4611, 0o711)),
            ("+t", (0o777, 0o1777), (0o777, 0o1777)),
            ("o+t", (0o777, 0o777), (0o777, 0o777)),
            ("-t", (0o1777, 0o777), (0o1777, 0o777)),
            ("u+X", (0o600, 0o600), (0o600, 0o700)),
            ("g+X", (0o100, 0o110), (0o000, 0o010)),
            ("a-X", (0o755, 0o644), (0o755, 0o644)),
            ("=rw,+X", (0o666, 0o666), (0o666, 0o777)),
            ("=rw,+X", (0o766, 0o777), (0o766, 0o777)),
            ("u+go", (0o021, 0o321), (0o021, 0o321)),
            ("a=r,ug=rw,u+x", (0o777, 0o764), (0, 0o764)),
            ("ug+rw-x", (0o111, 0o661), (0o111, 0o661)),
            ("u=g", (0o742, 0o442), (0o742, 0o442)),
        ] {
            check(text, file, dir);
        }
    }

    #[test]
    fn created_parents_take_octal_permissions_only() {
        assert_eq!(
            ModeChange::parse("1750").unwrap().of_created_parents(),
            0o750
        );
        assert_eq!(
            ModeChange::parse("u=rw").unwrap().of_created_parents(),
            0o755
        );
    }

    #[test]
    fn texts_that_are_no_modes() {
        for text in [
            "", ",", "u", "go", "q+r", "u+q", "u+x,", "8", "10000", "7a", "-1x", "u*x",
        ] {
            assert!(ModeChange::parse(text).is_err(), "{text}");
        }
    }
}
