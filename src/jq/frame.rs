//! What the relay and a jq process say to each other: frames of a length and so many bytes, one question and
//! one answer at a time.

use std::io::{self, Read, Write};

use super::{Made, ProgramId, Programs, Step, Task};

/// The longest frame: an event as JSON (its body in base64 at worst) or a transform's output.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Read at once: several short questions, or their answers.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// What the process answered to a task.
pub(super) type Outcome = Result<Made, (Step, String)>;

/// A question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Compile these, in place of those before.
    Load(Programs),
    /// Run this over this event.
    Run(Task, Vec<u8>),
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The processor time that the process has used since it began, in microseconds.
    pub(super) cpu_us: u64,
    /// None: the programs are loaded.
    pub(super) outcome: Option<Outcome>,
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a frame of this protocol")
}

fn write_frame(to: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).ok().filter(|length| *length as usize <= FRAME_BYTES_MAX).ok_or_else(damaged)?;
    // In one piece: a second write would wake the other side twice.
    let mut frame = Vec::with_capacity(4 + length as usize);
    frame.extend_from_slice(&length.to_le_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    to.write_all(&frame)
}

/// Reads a frame; none at the end of the conversation. `wait` is called whenever nothing came within the
/// reader's time-out, and ends the waiting with an error.
fn read_frame(from: &mut impl Read, wait: &mut dyn FnMut() -> io::Result<()>) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    if !fill(from, &mut head, wait)? {
        return Ok(None);
    }
    let length = usize::try_from(u32::from_le_bytes(head)).ok().filter(|length| *length <= FRAME_BYTES_MAX).ok_or_else(damaged)?;
    let mut frame = vec![0; length];
    if !fill(from, &mut frame, wait)? && length > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(frame))
}

/// Fills the buffer; `false`: the end came before its first byte.
fn fill(from: &mut impl Read, buffer: &mut [u8], wait: &mut dyn FnMut() -> io::Result<()>) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => wait()?,
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn id_bytes(id: Option<ProgramId>) -> [u8; 4] {
    id.map_or(0, |id| id.0.saturating_add(1)).to_le_bytes()
}

fn id(bytes: [u8; 4]) -> Option<ProgramId> {
    u32::from_le_bytes(bytes).checked_sub(1).map(ProgramId)
}

/// Asks for these programs.
pub(super) fn ask_to_load(to: &mut impl Write, programs: &Programs) -> io::Result<()> {
    write_frame(to, &[b"L", &serde_json::to_vec(&programs.0)?])
}

/// Asks for a task to be run.
pub(super) fn ask_to_run(to: &mut impl Write, task: Task, event: &[u8]) -> io::Result<()> {
    write_frame(to, &[b"R", &id_bytes(task.when), &id_bytes(task.transform), event])
}

/// Whether a whole frame begins these bytes.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, rest)) = bytes.split_first_chunk() else { return false };
    usize::try_from(u32::from_le_bytes(*head)).is_ok_and(|length| rest.len() >= length)
}

/// Reads a question; none at the end.
pub(super) fn question(from: &mut impl Read) -> io::Result<Option<Question>> {
    let Some(mut frame) = read_frame(from, &mut || Ok(()))? else { return Ok(None) };
    match frame.first() {
        Some(b'L') => Ok(Some(Question::Load(Programs(serde_json::from_slice(&frame[1..])?)))),
        Some(b'R') => {
            let (when, transform) = (frame.get(1..5), frame.get(5..9));
            let (Some(when), Some(transform)) = (when.and_then(|b| b.try_into().ok()), transform.and_then(|b| b.try_into().ok())) else {
                return Err(damaged());
            };
            frame.drain(..9);
            Ok(Some(Question::Run(Task { when: id(when), transform: id(transform) }, frame)))
        }
        _ => Err(damaged()),
    }
}

/// Writes an answer.
pub(super) fn tell(to: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let (kind, payload): (&[u8], &[u8]) = match &answer.outcome {
        None => (b"l", b""),
        Some(Ok(Made::Skipped)) => (b"s", b""),
        Some(Ok(Made::Unchanged)) => (b"u", b""),
        Some(Ok(Made::Body(body))) => (b"b", body),
        Some(Err((Step::When, text))) => (b"w", text.as_bytes()),
        Some(Err((Step::Transform, text))) => (b"t", text.as_bytes()),
    };
    write_frame(to, &[kind, &answer.cpu_us.to_le_bytes(), payload])
}

/// Reads an answer.
pub(super) fn answer(from: &mut impl Read, wait: &mut dyn FnMut() -> io::Result<()>) -> io::Result<Answer> {
    let mut frame = read_frame(from, wait)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let cpu_us = frame.get(1..9).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes).ok_or_else(damaged)?;
    let kind = frame[0];
    frame.drain(..9);
    let outcome = match kind {
        b'l' => None,
        b's' => Some(Ok(Made::Skipped)),
        b'u' => Some(Ok(Made::Unchanged)),
        b'b' => Some(Ok(Made::Body(frame.into()))),
        b'w' | b't' => {
            let step = if kind == b'w' { Step::When } else { Step::Transform };
            Some(Err((step, String::from_utf8_lossy(&frame).into_owned())))
        }
        _ => return Err(damaged()),
    };
    Ok(Answer { cpu_us, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_read_back() {
        let mut wire = Vec::new();
        let programs = Programs(vec![".".to_owned(), "ä".to_owned()]);
        let task = Task { when: None, transform: Some(ProgramId(7)) };
        ask_to_load(&mut wire, &programs).unwrap();
        ask_to_run(&mut wire, task, b"{}").unwrap();
        let mut wire = wire.as_slice();
        assert_eq!(question(&mut wire).unwrap(), Some(Question::Load(programs)));
        assert_eq!(question(&mut wire).unwrap(), Some(Question::Run(task, b"{}".to_vec())));
        assert_eq!(question(&mut wire).unwrap(), None);
        for outcome in [
            None,
            Some(Ok(Made::Skipped)),
            Some(Ok(Made::Unchanged)),
            Some(Ok(Made::Body("[1]".into()))),
            Some(Err((Step::When, "a".to_owned()))),
            Some(Err((Step::Transform, String::new()))),
        ] {
            let (mut wire, said) = (Vec::new(), Answer { cpu_us: 9, outcome });
            tell(&mut wire, &said).unwrap();
            assert_eq!(answer(&mut wire.as_slice(), &mut || Ok(())).unwrap(), said);
        }
    }

    #[test]
    fn what_is_cut_short_or_no_frame_is_an_error() {
        let mut wire = Vec::new();
        ask_to_run(&mut wire, Task { when: None, transform: None }, b"{}").unwrap();
        for length in 1..wire.len() {
            assert!(question(&mut &wire[..length]).is_err(), "{length}");
        }
        assert!(question(&mut &[1, 0, 0, 0, b'?'][..]).is_err());
        assert!(question(&mut &u32::MAX.to_le_bytes()[..]).is_err());
        assert!(answer(&mut &b""[..], &mut || Ok(())).is_err(), "the process has gone");
    }
}
