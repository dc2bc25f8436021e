//! The scheme language against recorded requests, and what it must never let through.

mod adhoc {
    #[test]
    fn all() {
        let report = kurier::signature::vectors::run(&std::fs::read("/work/shared/vectors.json").unwrap()).unwrap();
        for r in &report.results {
            if let Some(f) = &r.failure {
                println!("{}: {}", r.id, f);
            }
        }
        println!("{} passed, {} failed", report.passed(), report.failed());
        let report = kurier::signature::vectors::run(&std::fs::read("tests/fixtures/vectors.json").unwrap()).unwrap();
        for r in &report.results {
            if let Some(f) = &r.failure {
                println!("FIX {}: {}", r.id, f);
            }
        }
        println!("{} passed, {} failed", report.passed(), report.failed());
    }
}
