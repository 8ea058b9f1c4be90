//! Standard input that can be given up: a read of a pipe or terminal that nobody writes to would hold up the end that
//! the user asks for. A thread passes it on through a pipe of ours, and closes that when it is time to stop.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// How long one look for input lasts, in nanoseconds.
const LOOK: i64 = 100_000_000;
/// Bytes passed on at a time.
const CHUNK: usize = 128 << 10;

/// Makes the standard input of this process end when `stop` says so. Files, and directories, which cannot be read, are left as they are: they never wait. For
/// processes that have their signals blocked already: the thread that this starts must not get them.
///
/// # Errors
/// What the host says.
pub fn give_up_when(stop: impl Fn() -> bool + Send + 'static) -> io::Result<()> {
    let original = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let kind = original.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() {
        return Ok(());
    }
    let (reader, mut writer) = io::pipe()?;
    rustix::stdio::dup2_stdin(&reader)?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while !stop() {
            let wait = Timespec { tv_sec: 0, tv_nsec: LOOK };
            match poll(&mut [PollFd::new(&original, PollFlags::IN)], Some(&wait)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => return,
            }
            let passed = match rustix::io::read(&original, &mut buffer[..]) {
                Ok(0) => return,
                Ok(n) => buffer.get(..n).unwrap_or_default(),
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(_) => return,
            };
            // When nobody reads any more the work has ended.
            if writer.write_all(passed).is_err() {
                return;
            }
        }
    });
    Ok(())
}
