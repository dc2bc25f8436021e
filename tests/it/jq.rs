//! Programs in real child processes: what they make, and what becomes of those that go too far.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kurier::jq::{Children, Engine, Failure, Made, ProgramId, Programs, Step, Task};

/// Children of the built binary.
fn children() -> Children {
    Children::of(PathBuf::from(env!("CARGO_BIN_EXE_kurier")))
}

fn transform(source: &str) -> (Arc<Programs>, Task) {
    let mut programs = Programs::default();
    let transform = Some(programs.add(source));
    (Arc::new(programs), Task { when: None, transform })
}

async fn make(engine: &Children, source: &str, input: &str) -> Result<String, String> {
    let (programs, task) = transform(source);
    match engine.run(&programs, task, input.to_owned().into()).await {
        Ok(Made::Body(body)) => Ok(String::from_utf8(body.to_vec()).unwrap()),
        Ok(other) => panic!("{other:?}"),
        Err(failure) => Err(failure.to_string()),
    }
}

#[tokio::test]
async fn a_child_runs_what_it_is_given_and_switches_with_the_configuration() {
    let engine = children();
    assert_eq!(make(&engine, ".a", r#"{"a":1.10}"#).await.as_deref(), Ok("1.10"));
    assert_eq!(make(&engine, "[.a]", r#"{"a":"\u00e4"}"#).await.as_deref(), Ok("[\"ä\"]"));
    let mut programs = Programs::default();
    let (when, transform) = (Some(programs.add(".n > 1")), Some(programs.add("{m: .n}")));
    let programs = Arc::new(programs);
    let run = |when: Option<ProgramId>, transform, input: &'static str| engine.run(&programs, Task { when, transform }, input.into());
    assert_eq!(run(when, transform, r#"{"n":2}"#).await, Ok(Made::Body("{\"m\":2}".into())));
    assert_eq!(run(when, transform, r#"{"n":1}"#).await, Ok(Made::Skipped));
    assert_eq!(run(when, None, r#"{"n":2}"#).await, Ok(Made::Unchanged));
    let failure = run(Some(transform.unwrap()), None, "[]").await.unwrap_err();
    assert!(matches!(failure, Failure::Program { step: Step::When, .. }), "{failure:?}");
}

#[tokio::test]
async fn a_program_that_goes_too_far_ends_with_a_reason_and_the_next_one_runs() {
    let engine = children();
    for (source, reason) in [
        ("def f: 1 + f; f", "`transform` recurses too deep"),
        ("[range(1e12)]", "`transform` "),
        ("def f: f; f", "`transform` took longer than 1 s of processor time"),
        ("reduce range(1e6) as $i (1; [.])", "`transform` "),
        ("\"xxxxxxxxxxxxxxxx\" * 1000000000", "`transform` needs more memory than it may use"),
        ("[\"x\" * 17000000]", "`transform` made more than 16777216 bytes"),
        ("error", "`transform` failed: {\"a\":1}"),
        ("empty", "`transform` made nothing: it must make one value"),
    ] {
        let failure = make(&engine, source, r#"{"a":1}"#).await.unwrap_err();
        // Some are out of memory, stack or time, whichever the machine reaches first.
        assert!(failure.starts_with(reason), "{source}: {failure}");
        assert_eq!(make(&engine, ".a", r#"{"a":1}"#).await.as_deref(), Ok("1"), "after {source}");
    }
}

#[tokio::test]
async fn of_many_that_run_together_each_gets_its_own_answer_and_the_bad_ones_their_own_reason() {
    let engine = Arc::new(children());
    let mut programs = Programs::default();
    let usual = Task { when: Some(programs.add(".n % 3 > 0")), transform: Some(programs.add("{m: .n, pad}")) };
    let dies = Task { when: Some(programs.add("true")), transform: Some(programs.add("def f: 1 + f; f")) };
    let loops = Task { when: Some(programs.add("def f: f; f")), transform: None };
    let programs = Arc::new(programs);
    let mut running = tokio::task::JoinSet::new();
    for n in 0..400 {
        let (engine, programs) = (engine.clone(), programs.clone());
        // Answers of more than a buffer, and questions of more than a message.
        let pad = "x".repeat(if n % 50 == 0 { 100_000 } else { n });
        let task = match n {
            100 | 101 => dies,
            200 => loops,
            _ => usual,
        };
        running.spawn(async move {
            let made = engine.run(&programs, task, format!("{{\"n\":{n},\"pad\":\"{pad}\"}}").into()).await;
            (n, pad, made)
        });
    }
    while let Some(Ok((n, pad, made))) = running.join_next().await {
        match (n, made) {
            (100 | 101, Err(Failure::Program { step: Step::Transform, text })) => assert_eq!(text, "recurses too deep"),
            (200, Err(Failure::Program { step: Step::When, text })) => assert!(text.starts_with("took longer"), "{text}"),
            (_, Ok(Made::Skipped)) => assert!(n.is_multiple_of(3), "{n}"),
            (_, Ok(Made::Body(body))) => assert_eq!(body, format!("{{\"m\":{n},\"pad\":\"{pad}\"}}")),
            (_, other) => panic!("{n}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_child_has_no_environment_no_files_and_no_way_out() {
    let engine = children();
    let refused = |source| kurier::jq::check(source).is_err();
    for source in
        ["env", "$ENV.PATH", "halt", "halt_error", "input", "include \"a\"; .", "import \"/etc/passwd\" as $x; $x", "input_filename"]
    {
        assert!(refused(source), "{source}");
        // Even if one came this far, the child would not load it.
        let failure = make(&engine, source, "{}").await.unwrap_err();
        assert!(failure.contains("can't load the programs"), "{source}: {failure}");
    }
    assert_eq!(make(&engine, "1 | localtime | type", "{}").await.as_deref(), Ok("\"array\""), "time zones come from no file");
}

#[tokio::test]
async fn programs_that_take_all_their_time_leave_the_others_a_process() {
    let engine = Arc::new(children());
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { make(&engine, "def f: f; f", "{}").await })
        })
        .collect();
    assert!(make(&engine, "def f: f; f", "{}").await.is_err());
    // From here on the slow program is suspect: however many wait, one runs at a time.
    let more: Vec<_> = (0..20)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { make(&engine, "def f: f; f", "{}").await })
        })
        .collect();
    for n in 0..100 {
        assert_eq!(make(&engine, ".a", &format!("{{\"a\":{n}}}")).await, Ok(n.to_string()));
    }
    assert!(more.iter().filter(|task| task.is_finished()).count() < 20, "the others did not wait for them");
    for task in slow.into_iter().chain(more) {
        task.abort();
    }
}

#[tokio::test]
async fn a_child_ends_with_its_relay_also_in_the_middle_of_a_program() {
    let engine = children();
    let (programs, task) = transform("def f: f; f");
    let before = child_count();
    assert!(tokio::time::timeout(Duration::from_millis(300), engine.run(&programs, task, "{}".into())).await.is_err());
    drop(engine);
    while child_count() > before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many jq processes this process has begun and not ended.
fn child_count() -> usize {
    let own = std::process::id().to_string();
    let is_ours = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.split(' ').nth(1) == Some(own.as_str()));
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes.filter(|process| std::fs::read_to_string(process.path().join("stat")).is_ok_and(|stat| is_ours(&stat))).count()
}

#[tokio::test]
async fn no_child_means_try_again_and_blames_no_program() {
    let engine = Children::of(PathBuf::from("/nonexistent/kurier"));
    let (programs, task) = transform(".");
    let failure = engine.run(&programs, task, "{}".into()).await.unwrap_err();
    assert!(matches!(failure, Failure::Unavailable(_)), "{failure:?}");
}
