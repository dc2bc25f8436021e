use super::*;

fn run(when: Option<&str>, transform: Option<&str>, input: &str) -> Result<Made, (Step, String)> {
    let mut programs = Programs::default();
    let task = Task { when: when.map(|source| programs.add(source)), transform: transform.map(|source| programs.add(source)) };
    Compiled::new(&programs).unwrap().run(task, input.as_bytes())
}

fn body(transform: &str, input: &str) -> String {
    match run(None, Some(transform), input) {
        Ok(Made::Body(body)) => String::from_utf8(body.to_vec()).unwrap(),
        Ok(other) => format!("{other:?}"),
        Err((step, text)) => format!("{} {text}", step.word()),
    }
}

fn mistakes(source: &str) -> Vec<(usize, String)> {
    check(source).unwrap_err().into_iter().map(|mistake| (mistake.offset, mistake.text)).collect()
}

#[test]
fn a_transform_makes_one_json_value_and_keeps_numbers_as_they_are() {
    assert_eq!(body("{id: .a, n: .n}", r#"{"a":"ä\"","n":1.10}"#), r#"{"id":"ä\"","n":1.10}"#);
    assert_eq!(body(".n", r#"{"n":123456789012345678901234567890.1}"#), "123456789012345678901234567890.1");
    assert_eq!(body("[.[] | tostring | ascii_upcase]", r#"["a",1]"#), r#"["A","1"]"#);
    assert_eq!(body("empty", "1"), "transform made nothing: it must make one value");
    assert_eq!(body("1, 2", "1"), "transform made more than one value: put them into a list, `[…]`");
    assert_eq!(body("range(1e12)", "1"), "transform made more than one value: put them into a list, `[…]`");
    assert_eq!(body("nan", "1"), "transform made a value that is no JSON (nan, infinite or bytes)");
    assert_eq!(body(".a.b", r#"{"a":[1]}"#), "transform failed: cannot index [1] with \"b\"");
    assert_eq!(body("error(\"no order\")", "1"), "transform failed: \"no order\"");
}

#[test]
fn when_goes_by_the_truth_of_the_first_value() {
    for (when, made) in [
        (". > 1", Ok(Made::Unchanged)),
        (". < 1", Ok(Made::Skipped)),
        ("null", Ok(Made::Skipped)),
        ("0", Ok(Made::Unchanged)),
        ("empty", Ok(Made::Skipped)),
        ("false, true", Ok(Made::Skipped)),
        ("error(\"x\")", Err((Step::When, "failed: \"x\"".to_owned()))),
    ] {
        assert_eq!(run(Some(when), None, "2"), made, "{when}");
    }
    assert_eq!(run(Some("false"), Some("error(\"never asked\")"), "2"), Ok(Made::Skipped));
}

#[test]
fn mistakes_are_told_with_their_place() {
    assert_eq!(mistakes(".a |"), [(4, "expected term, found the end".to_owned())]);
    assert_eq!(mistakes(".a | foo(1) | bar"), [(5, "unknown filter `foo`".to_owned()), (14, "unknown filter `bar`".to_owned())]);
    assert_eq!(mistakes("[.a, (1]")[0], (7, "expected closing parenthesis".to_owned()));
    assert_eq!(mistakes("$x"), [(0, "unknown variable `$x`".to_owned())]);
    assert_eq!(mistakes("include \"m\"; m"), [(9, "there are no modules to load".to_owned())]);
    assert_eq!(mistakes("import \"m\" as $m; $m"), [(8, "there are no modules to load".to_owned())]);
    assert_eq!(mistakes("")[0].0, 0);
}

#[test]
fn what_reaches_beyond_the_event_is_refused_with_a_hint() {
    for source in ["env", "$ENV", "halt", "halt_error", "input", "inputs", "debug", "stderr", "input_filename"] {
        let found = check(&format!(".a | {source}")).unwrap_err();
        assert_eq!((found[0].offset, found[0].text.as_str()), (5, format!("`{source}` is not available").as_str()));
        assert!(found[0].hint.is_some());
    }
    for source in ["env.PATH", "halt(1)", "halt_error(1)", "debug(1)", "[inputs]", "get_search_list", "$__prog_args", "input_line_number"] {
        assert!(check(source).is_err(), "{source}");
    }
}

#[test]
fn a_text_that_is_all_nesting_is_compiled_or_refused_and_never_a_crash() {
    for part in
        ["(", "[", "{a:", "-", "if . then ", "try ", "def f: ", ".[", "\"\\(", ". as $x | ", "reduce . as $x (", "not |", "1+", "..", "?"]
    {
        let source = part.repeat(PROGRAM_BYTES_MAX / part.len());
        drop(check(&source));
        drop(check(&format!("{source} .")));
    }
    let closed = format!("{}.{}", "[".repeat(8000), "]".repeat(8000));
    assert_eq!(check(&closed), Ok(()));
    assert!(check(&" ".repeat(PROGRAM_BYTES_MAX + 1)).is_err());
}

#[test]
fn an_event_of_nothing_but_nesting_is_not_looked_at() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(body("length", &deep(1000)), "1");
    assert!(body("length", &deep(1001)).contains("nested deeper"));
    assert_eq!(depth(br#"{"a":"[[[\"[[","b":[1,{"c":[]}]}"#), 4);
}
