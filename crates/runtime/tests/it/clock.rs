//! Another clock on the wall.

use crate::support::{Fixture, Ran, helper, run};
use runtime::{Exit, ProcessSpec, User, spawn};
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};
use sys::mount::Lower;

/// A day, an hour, a minute and a second.
const AHEAD: u32 = 90_061;

/// A container with this machine's programs beside busybox, a day ahead.
fn ahead(fixture: &Fixture, script: &str) -> ProcessSpec {
    let mut spec = fixture.spec(script);
    spec.root = fixture.root_of(vec![
        Lower::Dir("/usr".into()),
        Lower::Dir(fixture.path("root")),
    ]);
    spec.clock_ahead = AHEAD;
    spec
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("later than 1970").as_secs()
}

/// Every line that a script prints is a time of the other clock.
#[track_caller]
fn check_times(script: &str, lines: usize) {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let ahead = ahead(&fixture, script);
    let earliest = now() + u64::from(AHEAD);
    let Ran {
        stdout,
        stderr,
        exit,
    } = run(&ahead);
    let latest = now() + u64::from(AHEAD);
    assert_eq!((exit, stderr.as_str()), (Exit::Code(0), ""), "{stdout}");
    let times: Vec<u64> = stdout.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(times.len(), lines, "{stdout}");
    for time in times {
        assert!((earliest..=latest).contains(&time), "{time} of {stdout}");
    }
}

#[test]
fn static_and_dynamic_programs_and_their_children_see_it() {
    check_times("/bin/busybox date +%s; /bin/date +%s", 2);
    // `time(2)` of the C library, and `gettimeofday(2)` in a process of a process.
    check_times(
        "/bin/perl -e 'print time, \"\\n\"; exec \"/bin/sh\", \"-c\", \"/bin/busybox date +%s\"'",
        2,
    );
    check_times(
        "for i in 1 2 3; do (/bin/date +%s; /bin/date +%s) & done; wait",
        6,
    );
}

#[test]
fn the_kernels_own_answers_to_each_call() {
    #[cfg(target_arch = "x86_64")]
    const CALLS: &str = "my ($gettime, $timeofday) = (228, 96);";
    #[cfg(not(target_arch = "x86_64"))]
    const CALLS: &str = "my ($gettime, $timeofday) = (113, 169);";
    let program = format!(
        r#"{CALLS}
        my $time = "\0" x 16;
        for my $clock (0, 5, 11) {{
            syscall($gettime, $clock, $time) == 0 or die "clock $clock: $!";
            # TAI is 37 seconds ahead of the others, on machines that know.
            my $seconds = unpack "q", $time;
            print $seconds - ($seconds - time > 30 ? 37 : 0), "\n";
        }}
        syscall($timeofday, $time, 0) == 0 or die "gettimeofday: $!";
        my ($seconds, $micros) = unpack "qq", $time;
        $micros < 1e6 or die "$micros microseconds";
        print "$seconds\n";
        syscall($gettime, 1, $time);
        (unpack "q", $time)[0] < 1e9 or die "the other clocks are as they were";
        syscall($gettime, 0, 1) == -1 && $!{{EFAULT}} or die "a bad address: $!";
        syscall($gettime, 99, $time) == -1 && $!{{EINVAL}} or die "no such clock: $!";
        "#
    );
    let program = program
        .replace("$!{EFAULT}", "$!+0 == 14")
        .replace("$!{EINVAL}", "$!+0 == 22");
    check_times(&format!("/bin/perl -e '{program}'"), 4);
}

/// Each waits for an instant a moment from now; without a correction it would wait for a day.
#[test]
fn who_waits_for_an_instant_waits_as_long_as_before() {
    #[cfg(target_arch = "x86_64")]
    const CALLS: &str = "my ($gettime, $nanosleep, $futex, $create, $settime, $mqopen, $mqreceive) = (228, 230, 202, 283, 286, 240, 243);";
    #[cfg(not(target_arch = "x86_64"))]
    const CALLS: &str = "my ($gettime, $nanosleep, $futex, $create, $settime, $mqopen, $mqreceive) = (113, 115, 98, 85, 86, 180, 183);";
    let program = format!(
        r#"{CALLS}
        sub now {{ my $time = "\0" x 16; syscall($gettime, 0, $time); return unpack "qq", $time; }}
        sub instant {{
            my ($seconds, $nanos) = now;
            $nanos += $_[0] * 1e6;
            return pack "qq", $seconds + int($nanos / 1e9), $nanos % 1e9;
        }}
        sub reached {{
            my ($what, $instant) = @_;
            my ($seconds, $nanos) = unpack "qq", $instant;
            my ($now, $part) = now;
            $now > $seconds || $now == $seconds && $part >= $nanos or die "$what: too early";
            print "$now\n";
        }}
        my $instant = instant(20);
        syscall($nanosleep, 0, 1, $instant, 0) == 0 or die "clock_nanosleep: $!";
        reached("clock_nanosleep", $instant);
        my $word = pack "l", 7;
        $instant = instant(20);
        # FUTEX_WAIT_BITSET of CLOCK_REALTIME, for the word to be another one.
        syscall($futex, $word, 9 | 128 | 256, 7, $instant, 0, 0xffffffff);
        $!+0 == 110 or die "futex: $!";
        reached("futex", $instant);
        my $timer = syscall($create, 0, 0);
        $instant = instant(20);
        my $once = pack("qq", 0, 0) . $instant;
        syscall($settime, $timer, 1, $once, 0) == 0 or die "timerfd_settime: $!";
        open my $file, "<&=", $timer or die;
        sysread $file, my $count, 8;
        reached("timerfd", $instant);
        my $name = "q";
        my $queue = syscall($mqopen, $name, 64 | 2, 0600, 0);
        $queue >= 0 or die "mq_open: $!";
        $instant = instant(20);
        my $message = "\0" x 8192;
        syscall($mqreceive, $queue, $message, 8192, 0, $instant);
        $!+0 == 110 or die "mq_timedreceive: $!";
        reached("mq_timedreceive", $instant);
        # One that is interrupted, and that the kernel makes once more.
        my $parent = $$;
        $instant = instant(200);
        if (!fork) {{
            select undef, undef, undef, 0.05;
            kill "STOP", $parent;
            kill "CONT", $parent;
            exit;
        }}
        syscall($nanosleep, 0, 1, $instant, 0) == 0 or die "clock_nanosleep, interrupted: $!";
        reached("clock_nanosleep, interrupted", $instant);
        "#
    );
    check_times(&format!("/bin/perl -e '{program}'"), 5);
}

#[test]
fn programs_with_more_rights_keep_them() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let program = fixture.path("root/bin/show");
    std::fs::copy("/usr/bin/cat", &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let secret = fixture.image_file("secret", "root's\n");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut spec = ahead(&fixture, "cat /secret 2> /dev/null || show /secret");
    spec.user = User {
        uid: 1000,
        gid: 1000,
        groups: Vec::new(),
    };
    crate::support::check(&spec, "root's\n");
}

#[test]
fn stopping_continuing_and_killing() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let script = "exec 2> /dev/null; sleep 1000 & kill -STOP $!; kill -CONT $!; kill $!; wait $!; echo $?; \
                  trap 'echo caught' USR1; kill -USR1 $$; sh -c 'kill -9 $$'; echo $?";
    crate::support::check(&ahead(&fixture, script), "143\ncaught\n137\n");
    let mut forever = ahead(&fixture, "sleep 1000 & sleep 1000");
    forever.init = true;
    let process = spawn(helper(), &forever).unwrap();
    assert!(process.clock_refused().is_none());
    process.handle().kill();
    let outcome = process.wait(|_, _| {}).unwrap();
    assert_eq!(outcome.exit, Exit::Signal(9));
}

#[test]
fn the_machines_clock_cannot_be_set() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = ahead(&fixture, "/bin/busybox date -s '2031-01-01' > /dev/null");
    spec.security = runtime::Security::insecure();
    let ran = run(&spec);
    assert!(ran.stderr.contains("Operation not permitted"), "{ran:?}");
}
