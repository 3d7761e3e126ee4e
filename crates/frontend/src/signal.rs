//! Names and numbers that `STOPSIGNAL` takes (row I7).

use dockerfile::{Diagnostic, Span, nearest};

/// Linux signals without their `SIG`.
const NAMES: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Number of signals between `RTMIN` and `RTMAX`, which names count from either end.
const REAL_TIME: u32 = 30;

/// Checks a signal.
pub(crate) fn check(signal: &str, span: Span) -> Result<(), Diagnostic> {
    if is_valid(signal) {
        return Ok(());
    }
    let full: Vec<String> = NAMES.iter().map(|name| format!("SIG{name}")).collect();
    let names = full.iter().map(String::as_str).chain(NAMES.iter().copied());
    let help = nearest(signal, names).map(|near| format!("did you mean `{near}`?"));
    let message = format!("invalid signal: {signal}");
    let error = Diagnostic::error("signal", span, message);
    Err(error
        .with_help("write a name like SIGTERM, or a number")
        .with_help_if(help))
}

fn is_valid(signal: &str) -> bool {
    if let Ok(number) = signal.parse::<u32>() {
        return number != 0;
    }
    let upper = signal.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |rest: Option<&str>| {
        let distance = rest.and_then(|rest| rest.parse::<u32>().ok());
        distance.is_some_and(|distance| (1..=REAL_TIME).contains(&distance))
    };
    NAMES.contains(&name)
        || real_time(name.strip_prefix("RTMIN+"))
        || real_time(name.strip_prefix("RTMAX-"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn i7_signals() {
        for valid in [
            "SIGKILL",
            "KILL",
            "sigterm",
            "9",
            "64",
            "SIGRTMIN+3",
            "RTMAX-1",
        ] {
            assert!(super::is_valid(valid), "{valid}");
        }
        for invalid in ["", "0", "SIGFOO", "-1", "RTMIN+99", "SIG"] {
            assert!(!super::is_valid(invalid), "{invalid}");
        }
    }
}
