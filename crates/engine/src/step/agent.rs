//! `RUN --mount=type=ssh`: a socket of the step's own, with the mode and owner that it asks for,
//! whose connections are passed on to the agent. An agent lets nobody in but its user, and a step
//! may run as another.

use std::fs::{self, File, Permissions};
use std::io::{self, PipeReader, PipeWriter};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// A socket that leads to an agent. Dropping closes and removes it.
pub(super) struct Forward {
    directory: PathBuf,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

const NAME: &str = "agent";

impl Forward {
    /// Listens in `directory`, which is empty and nobody else's.
    pub(super) fn start(
        directory: PathBuf,
        agent: PathBuf,
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> io::Result<Forward> {
        let opened = File::open(&directory)?;
        // The path of a socket has at most 107 bytes; a store may lie deeper than that.
        let short = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd()));
        let listener = UnixListener::bind(&short)?;
        fs::set_permissions(&short, Permissions::from_mode(mode & 0o777))?;
        sys::fs::set_owner(&opened, NAME, uid, gid)?;
        let (stopped, stop) = io::pipe()?;
        let thread = std::thread::Builder::new()
            .name("ssh".into())
            .spawn(move || listen(&listener, &stopped, &agent))?;
        Ok(Forward {
            directory,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It only panics with the process.
            drop(thread.join());
        }
        // What is left goes with the store's other scratch files.
        drop(fs::remove_dir_all(&self.directory));
    }
}

fn listen(listener: &UnixListener, stopped: &PipeReader, agent: &Path) {
    let wanted = || sys::poll::readable([Some(listener.as_fd()), Some(stopped.as_fd())], None);
    while let Ok([true, false]) = wanted() {
        let Ok((client, _)) = listener.accept() else {
            return;
        };
        // A client whose agent has gone finds its connection closed.
        if let Ok(agent) = UnixStream::connect(agent) {
            pass_on(client, agent);
        }
    }
}

/// Copies in both directions on threads that end with the connections.
fn pass_on(client: UnixStream, agent: UnixStream) {
    let (Ok(from_client), Ok(from_agent)) = (client.try_clone(), agent.try_clone()) else {
        return;
    };
    for (mut from, mut to) in [(from_client, agent), (from_agent, client)] {
        let copy = move || {
            // However it ends, the other side is told.
            drop(io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Write));
        };
        drop(std::thread::Builder::new().name("ssh".into()).spawn(copy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn connections_are_passed_on_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        // Deeper than a socket's path may be.
        let deep = folder.path().join("d".repeat(200));
        fs::create_dir(&deep).unwrap();
        let agent = UnixListener::bind(folder.path().join("a")).unwrap();
        let owner = (
            sys::process::geteuid().as_raw(),
            sys::process::getegid().as_raw(),
        );
        let forward = Forward::start(deep.clone(), folder.path().join("a"), 0o640, owner).unwrap();
        assert_eq!(forward.path(), deep.join(NAME));
        let mode = fs::metadata(forward.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        let opened = File::open(&deep).unwrap();
        let short = format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd());
        for question in ["one", "another"] {
            let mut client = UnixStream::connect(&short).unwrap();
            client.write_all(question.as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let (mut server, _) = agent.accept().unwrap();
            let mut heard = String::new();
            server.read_to_string(&mut heard).unwrap();
            server.write_all(b"to you too").unwrap();
            drop(server);
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!((heard.as_str(), answer.as_str()), (question, "to you too"));
        }
        // An agent that has gone is no agent, and no harm.
        drop(agent);
        let mut client = UnixStream::connect(&short).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(forward);
        assert!(UnixStream::connect(&short).is_err() && !deep.exists());
    }
}
