//! One jq process, seen from the relay: asked a question, waited for, killed when it goes beyond.
//!
//! Everything here blocks, and runs on a thread that may. Time is the machine's own: the processor time that
//! the process used, so that a program is not blamed for a machine that is busy with something else.

use std::io::{self, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::frame::{self, Answer};
use super::{CHILD_ARGUMENT, Failure, Made, Programs, Step, Task};

/// The most processor time of one task.
const CPU_TIME_MAX: Duration = Duration::from_secs(1);

/// How often a process that has not answered is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// After so many looks the process is given up although it used no time: the machine has none to give.
const LOOKS_MAX: u32 = 300;

/// The time of a tick in `/proc/<pid>/stat`, which is the same on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// The most of a dead process's last words that is read.
const LAST_WORDS_BYTES_MAX: u64 = 4096;

/// A process and the programs that it has compiled.
pub(super) struct Worker {
    child: Child,
    socket: BufReader<UnixStream>,
    programs: Option<Arc<Programs>>,
    /// The processor time that it had used at its last answer.
    cpu: Duration,
}

/// Why there is no answer; the process is not to be used again.
enum Silence {
    /// It used its time up.
    Time,
    /// It died, or said something else than it should.
    Died(io::Error),
    /// It neither answered nor worked.
    Stuck,
}

impl Worker {
    /// Starts a process: no environment, no files but its socket.
    pub(super) fn start(executable: &Path) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(LOOK_EVERY))?;
        ours.set_write_timeout(Some(LOOK_EVERY * LOOKS_MAX))?;
        let child = Command::new(executable)
            .arg(CHILD_ARGUMENT)
            .env_clear()
            // Else mimalloc sets a GiB aside at once, which is more than the process may have.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self { child, socket: BufReader::with_capacity(frame::BUFFER_BYTES, ours), programs: None, cpu: Duration::ZERO })
    }

    /// Runs a task. After a failure that is the process's own, `None` stands for it: it has been killed.
    pub(super) fn run(self, programs: &Arc<Programs>, task: Task, input: &[u8]) -> (Option<Self>, Result<Made, Failure>) {
        let (Some(when), Some(_)) = (task.when, task.transform) else { return self.run_one(programs, task, input) };
        // One question each: a process that dies can't say of which program it did.
        match self.run_one(programs, Task { when: Some(when), transform: None }, input) {
            (Some(worker), Ok(Made::Unchanged)) => worker.run_one(programs, Task { when: None, ..task }, input),
            ended => ended,
        }
    }

    /// Runs several tasks with one message, and answers the first of them. Those that are left without an answer may have
    /// done nothing wrong: the process died of one, or was killed, in which case `None` stands for it.
    pub(super) fn run_together(mut self, programs: &Arc<Programs>, tasks: &[(Task, &[u8])]) -> (Option<Self>, Vec<Result<Made, Failure>>) {
        let mut answers = Vec::with_capacity(tasks.len());
        let mut questions = Vec::new();
        let asked = tasks.iter().try_for_each(|(task, input)| frame::ask_to_run(&mut questions, *task, input));
        if asked.is_err() || self.prepare(programs).is_err() || self.socket.get_ref().write_all(&questions).is_err() {
            return (None, answers);
        }
        while answers.len() < tasks.len() {
            let Ok(Answer { outcome: Some(outcome), .. }) = self.answer() else { return (None, answers) };
            answers.push(outcome.map_err(|(step, text)| Failure::Program { step, text }));
        }
        (Some(self), answers)
    }

    /// Has it compile these programs, unless it has.
    fn prepare(&mut self, programs: &Arc<Programs>) -> Result<(), Silence> {
        let is_prepared = self.programs.as_ref().is_some_and(|known| Arc::ptr_eq(known, programs) || known == programs);
        if !is_prepared {
            self.load(programs)?;
            self.programs = Some(programs.clone());
        }
        Ok(())
    }

    fn run_one(mut self, programs: &Arc<Programs>, task: Task, input: &[u8]) -> (Option<Self>, Result<Made, Failure>) {
        if let Err(silence) = self.prepare(programs) {
            let text = format!("it can't load the programs: {}", self.last_words(&silence));
            return (None, Err(Failure::Unavailable(text)));
        }
        let asked = frame::ask_to_run(&mut self.socket.get_ref(), task, input).map_err(Silence::Died);
        match asked.and_then(|()| self.answer()) {
            Ok(Answer { outcome: Some(outcome), .. }) => (Some(self), outcome.map_err(|(step, text)| Failure::Program { step, text })),
            Ok(Answer { outcome: None, .. }) => (None, Err(Failure::Unavailable("it answered another question".to_owned()))),
            Err(Silence::Stuck) => (None, Err(Failure::Unavailable("it gets no processor time".to_owned()))),
            Err(silence) => {
                let step = if task.transform.is_some() { Step::Transform } else { Step::When };
                let text = self.last_words(&silence);
                (None, Err(Failure::Program { step, text }))
            }
        }
    }

    fn load(&mut self, programs: &Programs) -> Result<(), Silence> {
        frame::ask_to_load(&mut self.socket.get_ref(), programs).map_err(Silence::Died)?;
        self.answer().map(drop)
    }

    fn answer(&mut self) -> Result<Answer, Silence> {
        let (mut looks, mut out_of_time, since) = (0, false, self.cpu);
        let id = self.child.id();
        let mut look = || {
            looks += 1;
            out_of_time = used(id).is_some_and(|used| used.saturating_sub(since) >= CPU_TIME_MAX);
            if out_of_time || looks >= LOOKS_MAX { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
        };
        let answered = frame::answer(&mut self.socket, &mut look);
        match answered {
            Ok(answer) => {
                self.cpu = Duration::from_micros(answer.cpu_us);
                Ok(answer)
            }
            Err(_) if out_of_time => Err(Silence::Time),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Silence::Stuck),
            Err(error) => Err(Silence::Died(error)),
        }
    }

    /// Kills the process and says what it died of.
    fn last_words(mut self, silence: &Silence) -> String {
        match silence {
            Silence::Time => return format!("took longer than {} s of processor time", CPU_TIME_MAX.as_secs()),
            Silence::Stuck => return "gets no processor time".to_owned(),
            Silence::Died(_) => {}
        }
        let stderr = self.child.stderr.take();
        // It has closed its end, so it is dying; waiting for it lets it finish its last words.
        let status = self.child.wait();
        let mut words = Vec::new();
        if let Some(stderr) = stderr
            && stderr.take(LAST_WORDS_BYTES_MAX).read_to_end(&mut words).is_err()
        {
            words.clear();
        }
        let words = String::from_utf8_lossy(&words);
        if words.contains("memory allocation of") {
            "needs more memory than it may use".to_owned()
        } else if words.contains("has overflowed its stack") {
            "recurses too deep".to_owned()
        } else {
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let Silence::Died(error) = silence else { return status };
            tracing::warn!(%status, %error, last_words = %words.trim(), "a jq process died");
            format!("ended its process ({status})")
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only for a process that is over already.
        if self.child.kill().and_then(|()| self.child.wait()).is_err() {
            tracing::debug!("a jq process was over before it was ended");
        }
    }
}

/// The processor time that a process has used so far, by the kernel's account.
fn used(id: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is the program's name in brackets, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let ticks = fields.next()?.parse::<u32>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
    Some(TICK * ticks)
}
