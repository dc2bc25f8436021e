//! The jq engine: from text to a compiled program, from an event to what the program makes of it.

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars};
use jaq_json::{Val, read, write};
use serde::de::IgnoredAny;

use super::{Made, OUTPUT_BYTES_MAX, ProgramId, Programs, Step, Task};

/// The longest program. The parser recurses, and this bounds how deep.
pub const PROGRAM_BYTES_MAX: usize = 16 * 1024;

/// The stack on which programs are compiled: enough for the longest program of nothing but brackets.
pub(super) const COMPILE_STACK_BYTES: usize = 128 * 1024 * 1024;

/// The deepest event that a program is shown: beyond it reading and dropping it could exhaust the stack.
const DEPTH_MAX: usize = 1000;

/// The longest error of a program that is told; the value in it may be the whole event.
const ERROR_CHARS_MAX: usize = 160;

/// What programs can't do, and what is said to whoever tries.
const FORBIDDEN: &[(&str, &str)] = &[
    ("halt", "a program can't end the process; use `error(\"why\")`"),
    ("halt_error", "a program can't end the process; use `error(\"why\")`"),
    ("env", "a program sees the event only, no environment"),
    ("$ENV", "a program sees the event only, no environment"),
    ("input", "a program sees one event, which is `.`"),
    ("inputs", "a program sees one event, which is `.`"),
    ("input_filename", "a program sees one event, which is `.`"),
    ("debug", "a program has no log"),
    ("stderr", "a program has no log"),
];

/// The natives behind them, and the prelude's words that call these.
const LEFT_OUT: &[&str] = &["halt", "halt_error", "env", "debug", "debug_empty", "stderr", "stderr_empty"];

type Data = JustLut<Val>;

/// Something wrong with a program's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where in the text, in bytes from its start.
    pub offset: usize,
    /// What is wrong.
    pub text: String,
    /// What to do instead.
    pub hint: Option<&'static str>,
}

/// Looks for mistakes in a program, the way a child will compile it.
///
/// # Errors
/// Every mistake that was found, at least one.
pub fn check(source: &str) -> Result<(), Vec<Mistake>> {
    let whole = |text: String| vec![Mistake { offset: 0, text, hint: None }];
    if source.len() > PROGRAM_BYTES_MAX {
        return Err(whole(format!("the program is longer than {PROGRAM_BYTES_MAX} bytes")));
    }
    // On a stack of its own: a text of many brackets must not take the process down.
    let compile = std::thread::Builder::new().name("jq-check".to_owned()).stack_size(COMPILE_STACK_BYTES);
    let checked = std::thread::scope(|scope| match compile.spawn_scoped(scope, || compiled(source).map(drop)) {
        Ok(thread) => thread.join().unwrap_or_else(|_panic| Err(whole("the program can't be compiled".to_owned()))),
        Err(error) => Err(whole(format!("the program can't be checked: {error}"))),
    });
    checked.map_err(|mut mistakes| {
        // Where something is missing at the end, that is behind the last word, not lines below it.
        let end = source.trim_end().len();
        mistakes.iter_mut().for_each(|mistake| mistake.offset = mistake.offset.min(end));
        mistakes.sort_by_key(|mistake| mistake.offset);
        mistakes
    })
}

fn compiled(source: &str) -> Result<Filter<Data>, Vec<Mistake>> {
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let definitions = definitions.filter(|definition| !LEFT_OUT.contains(&definition.name));
    let natives = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let natives = natives.filter(|(name, _, _)| !LEFT_OUT.contains(name));
    let arena = Arena::default();
    let modules = Loader::new(definitions).load(&arena, File { code: source, path: () }).map_err(|errors| load_mistakes(source, errors))?;
    load::import(&modules, |_| Err("there are no modules".to_owned())).map_err(|errors| load_mistakes(source, errors))?;
    Compiler::default().with_funs(natives).compile(modules).map_err(|errors| {
        let undefined = errors.into_iter().flat_map(|(_, errors)| errors);
        undefined.map(|(name, kind)| undefined_mistake(source, name, kind.as_str())).collect()
    })
}

/// Where a part of the source begins; the start where it is none of it.
fn offset(source: &str, part: &str) -> usize {
    let at = (part.as_ptr() as usize).wrapping_sub(source.as_ptr() as usize);
    if at <= source.len() { at } else { 0 }
}

fn load_mistakes(source: &str, errors: load::Errors<&str, ()>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut tell = |part: &str, text: String| mistakes.push(Mistake { offset: offset(source, part), text, hint: None });
    for (_, error) in errors {
        match error {
            load::Error::Io(errors) => errors.into_iter().for_each(|(part, _)| tell(part, "there are no modules to load".to_owned())),
            load::Error::Lex(errors) => errors.into_iter().for_each(|(expected, part)| {
                tell(part, format!("expected {}", expected.as_str()));
            }),
            load::Error::Parse(errors) => errors.into_iter().for_each(|(expected, part)| {
                let expected = if expected.as_str() == "nothing" { "the end" } else { expected.as_str() };
                let found = if part.is_empty() { "the end".to_owned() } else { format!("`{}`", first_chars(part, 20)) };
                tell(if part.is_empty() { &source[source.len()..] } else { part }, format!("expected {expected}, found {found}"));
            }),
        }
    }
    mistakes
}

fn undefined_mistake(source: &str, name: &str, kind: &str) -> Mistake {
    let forbidden = FORBIDDEN.iter().find(|(word, _)| *word == name);
    let text =
        if forbidden.is_some() { format!("`{name}` is not available") } else { format!("unknown {kind} `{}`", first_chars(name, 40)) };
    Mistake { offset: offset(source, name), text, hint: forbidden.map(|(_, why)| *why) }
}

fn first_chars(text: &str, most: usize) -> String {
    let mut chars = text.chars();
    let mut first: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() {
        first.push('…');
    }
    first
}

/// Programs ready to run. Only a child, or a simulation of one, has them.
pub struct Compiled(Vec<Filter<Data>>);

impl Compiled {
    /// Compiles them; needs as much stack as the longest program wants.
    ///
    /// # Errors
    /// What is wrong with one of them, which [`check`] would have said.
    pub fn new(programs: &Programs) -> Result<Self, String> {
        let all: Result<Vec<_>, _> = programs.0.iter().map(|source| compiled(source)).collect();
        all.map(Self).map_err(|mistakes| mistakes.first().map_or_else(String::new, |mistake| mistake.text.clone()))
    }

    /// Runs a task over an event.
    ///
    /// # Errors
    /// Which program failed, and how.
    pub fn run(&self, task: Task, input: &[u8]) -> Result<Made, (Step, String)> {
        let first = if task.when.is_some() { Step::When } else { Step::Transform };
        if depth(input) > DEPTH_MAX {
            return Err((first, format!("can't look at an event nested deeper than {DEPTH_MAX} levels")));
        }
        let event = read::parse_single(input).map_err(|error| (first, format!("can't read the event: {error}")))?;
        if let Some(when) = task.when
            && !self.holds(when, event.clone()).map_err(|text| (Step::When, text))?
        {
            return Ok(Made::Skipped);
        }
        match task.transform {
            Some(transform) => Ok(Made::Body(self.body(transform, event).map_err(|text| (Step::Transform, text))?.into())),
            None => Ok(Made::Unchanged),
        }
    }

    fn outputs(&self, id: ProgramId, event: Val) -> Result<impl Iterator<Item = Result<Val, String>>, String> {
        let filter = self.0.get(id.0 as usize).ok_or("is not loaded")?;
        let context = Ctx::<Data>::new(&filter.lut, Vars::new([]));
        Ok(filter.id.run((context, event)).map(|output| {
            output.map_err(|exception| match exception.get_err() {
                Ok(error) => format!("failed: {}", first_chars(&error.to_string(), ERROR_CHARS_MAX)),
                // `halt` is not there to be called, and a `break` without a label does not compile.
                Err(_) => "ended without a value".to_owned(),
            })
        }))
    }

    /// Whether the first value is neither `false` nor `null`.
    fn holds(&self, id: ProgramId, event: Val) -> Result<bool, String> {
        let first = self.outputs(id, event)?.next().transpose()?;
        Ok(!matches!(first, None | Some(Val::Null | Val::Bool(false))))
    }

    /// The one value as JSON.
    fn body(&self, id: ProgramId, event: Val) -> Result<Vec<u8>, String> {
        let mut outputs = self.outputs(id, event)?;
        let first = outputs.next().ok_or("made nothing: it must make one value")??;
        if outputs.next().transpose()?.is_some() {
            return Err("made more than one value: put them into a list, `[…]`".to_owned());
        }
        let mut body = Vec::new();
        write::write(&mut body, &write::Pp::default(), 0, &first)
            .map_err(|error| format!("made a value that can't be written: {error}"))?;
        if body.len() > OUTPUT_BYTES_MAX {
            return Err(format!("made more than {OUTPUT_BYTES_MAX} bytes"));
        }
        // The engine knows values that JSON has no word for, such as `nan` and bytes.
        serde_json::from_slice::<IgnoredAny>(&body).map_err(|_error| "made a value that is no JSON (nan, infinite or bytes)".to_owned())?;
        Ok(body)
    }
}

/// How deep a JSON text is nested.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests;
