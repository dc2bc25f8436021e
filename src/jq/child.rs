//! The life of a jq process: it takes its limits upon itself, then answers questions until the relay goes.

use std::io::{self, BufReader, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;
use rustix::time::{ClockId, clock_gettime};

use super::frame::{self, Answer, Question};
use super::program::{COMPILE_STACK_BYTES, Compiled};

/// The argument that makes the `kurier` binary a jq process. It is nobody's command.
pub const CHILD_ARGUMENT: &str = "jq-child";

/// The most memory that programs may use: the largest event as the engine holds it, a few times over.
const MEMORY_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// For how much processor time answers are kept back to be told together.
const KEPT_FOR_US: u64 = 5000;

/// Runs as a jq process, with the relay at the other end of standard input, which is a socket.
pub fn run_as_child() -> ExitCode {
    let ended = limit_ourselves().and_then(|()| {
        // The engine recurses as deep as programs do; beyond this stack the process ends.
        let conversation = std::thread::Builder::new().name("jq".to_owned()).stack_size(COMPILE_STACK_BYTES).spawn(converse)?;
        conversation.join().unwrap_or_else(|_panic| Err(io::Error::other("the engine panicked")))
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Before the first byte is read: memory is bounded, and no file or process can be made.
fn limit_ourselves() -> io::Result<()> {
    let most = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Data counts every private writable page: heap, maps and stacks.
    setrlimit(Resource::Data, most(MEMORY_BYTES_MAX + 2 * COMPILE_STACK_BYTES as u64))?;
    setrlimit(Resource::Core, most(0))?;
    setrlimit(Resource::Fsize, most(0))?;
    Ok(())
}

fn converse() -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    watch_for_the_end(socket.as_fd().try_clone_to_owned()?)?;
    // From here on nothing more can be opened: no file, no pipe, no socket.
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: Some(0) })?;
    let mut compiled = None;
    let mut reader = BufReader::with_capacity(frame::BUFFER_BYTES, &socket);
    let (mut answers, mut told_at_us) = (Vec::new(), 0);
    while let Some(question) = frame::question(&mut reader)? {
        let outcome = match question {
            Question::Load(programs) => {
                compiled = Some(Compiled::new(&programs).map_err(io::Error::other)?);
                None
            }
            Question::Run(task, event) => {
                let compiled = compiled.as_ref().ok_or_else(|| io::Error::other("no programs are loaded"))?;
                Some(compiled.run(task, &event))
            }
        };
        let cpu_us = cpu_us();
        frame::tell(&mut answers, &Answer { cpu_us, outcome })?;
        // Together with those of the questions that are here already, if these don't take long.
        let is_late = cpu_us.saturating_sub(told_at_us) > KEPT_FOR_US;
        if is_late || answers.len() >= frame::BUFFER_BYTES || !frame::is_whole(reader.buffer()) {
            (&socket).write_all(&answers)?;
            // A long one is not kept in memory.
            answers = Vec::new();
            told_at_us = cpu_us;
        }
    }
    Ok(())
}

/// Ends the process with the relay, also in the middle of a program.
fn watch_for_the_end(socket: OwnedFd) -> io::Result<()> {
    const STACK_BYTES: usize = 64 * 1024;
    std::thread::Builder::new().name("jq-watch".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        loop {
            let mut gone = [PollFd::new(&socket, PollFlags::RDHUP)];
            if poll(&mut gone, None).is_ok() && !gone[0].revents().is_empty() {
                std::process::exit(0);
            }
        }
    })?;
    Ok(())
}

/// The processor time that this process has used.
fn cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs().saturating_mul(1_000_000).saturating_add(time.tv_nsec.unsigned_abs() / 1000)
}
