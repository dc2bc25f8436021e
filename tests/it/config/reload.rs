//! Noticing that a file has changed, and what a reload may not change (C2).

use std::fs;
use std::os::unix::fs::symlink;

use kurier::config::{self, Environment, LoadOptions, Watcher};
use tempfile::TempDir;

use super::{all_set, load_text, vars};

fn with(text: &str) -> (TempDir, std::path::PathBuf, Watcher) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("routes.yaml");
    fs::write(&path, text).unwrap();
    let mut watcher = Watcher::new(std::slice::from_ref(&path));
    assert!(!watcher.changed() && !watcher.changed() && !watcher.changed());
    (folder, path, watcher)
}

#[test]
fn a_write_an_editors_rename_and_a_removal_are_each_noticed_once() {
    let (folder, path, mut watcher) = with("a");
    fs::write(&path, "b").unwrap();
    assert!(watcher.changed() && !watcher.changed());
    fs::write(folder.path().join("tmp"), "c").unwrap();
    fs::rename(folder.path().join("tmp"), &path).unwrap();
    assert!(watcher.changed() && !watcher.changed());
    fs::remove_file(&path).unwrap();
    assert!(watcher.changed() && !watcher.changed());
    fs::write(&path, "c").unwrap();
    assert!(watcher.changed() && !watcher.changed());
}

#[test]
fn a_half_written_file_and_its_completion_are_two_changes() {
    let (_folder, path, mut watcher) = with("routes: {}");
    fs::write(&path, "rou").unwrap();
    assert!(watcher.changed());
    fs::write(&path, "routes: {a: {}}").unwrap();
    assert!(watcher.changed() && !watcher.changed());
}

#[test]
fn the_same_content_written_again_is_no_change() {
    let (_folder, path, mut watcher) = with("a");
    fs::write(&path, "a").unwrap();
    assert!(!watcher.changed());
}

#[test]
fn a_kubernetes_swap_of_data_is_noticed() {
    let folder = TempDir::new().unwrap();
    for version in ["v1", "v2"] {
        fs::create_dir(folder.path().join(version)).unwrap();
        fs::write(folder.path().join(version).join("routes.yaml"), version).unwrap();
    }
    symlink("v1", folder.path().join("..data")).unwrap();
    symlink("..data/routes.yaml", folder.path().join("routes.yaml")).unwrap();
    let mut watcher = Watcher::new(&[folder.path().join("routes.yaml")]);
    assert!(!watcher.changed() && !watcher.changed());
    symlink("v2", folder.path().join("..data_tmp")).unwrap();
    fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    assert!(watcher.changed() && !watcher.changed());
}

#[test]
fn a_change_between_the_load_and_the_first_look_counts() {
    let (_folder, path, _watcher) = with("routes: [");
    let error = config::load(&path, &all_set(), &LoadOptions::default()).err().unwrap();
    fs::write(&path, "routes: {").unwrap();
    let mut watcher = Watcher::since(&error.read);
    assert!(watcher.changed() && !watcher.changed());
}

#[test]
fn a_secret_file_that_a_failed_load_wanted_is_watched_too() {
    let text = "admin: { token: { file: token } }\nroutes: {}\n";
    let (folder, path, _watcher) = with(text);
    let error = config::load(&path, &vars(&[]), &LoadOptions::default()).err().unwrap();
    let mut watcher = Watcher::since(&error.read);
    assert!(!watcher.changed());
    fs::write(folder.path().join("token"), "a-long-enough-token").unwrap();
    assert!(watcher.changed());
}

fn config(head: &str, names: &[&str]) -> config::Loaded {
    let destinations: String = names.iter().map(|name| format!("  {name}: {{ url: 'https://erp.example.ch' }}\n")).collect();
    let text = format!("{head}\nroutes:\n  a: {{ path: /a, verify: none, deliver: [{}] }}\ndestinations:\n{destinations}", names[0]);
    let env: &dyn Environment = &all_set();
    load_text(&text, env).map_err(|error| error.to_string()).unwrap()
}

#[test]
fn a_change_of_listen_or_store_needs_a_restart_and_nothing_else_does() {
    let old = config("", &["erp", "shop"]);
    let same = config("server: { listen: 0.0.0.0:8080, limits: { body: 2MiB }, grace: 5s }", &["erp"]);
    assert!(config::reload_refusals(&old.config, &same).is_empty());
    assert_eq!(config::removed_destinations(&old.config, &same.config).iter().map(|name| name.to_string()).collect::<Vec<_>>(), ["shop"]);
    let moved = config(
        "server: { listen: 0.0.0.0:8081 }\nadmin: { listen: '127.0.0.1:9091' }\nstore: { path: other, retention: 8d, max_size: 1GiB, key: { env: ANY }, allow_file_systems: [nfs] }",
        &["erp"],
    );
    let refusals = config::reload_refusals(&old.config, &moved);
    let paths: Vec<_> = refusals.iter().map(|refusal| refusal.path.as_str()).collect();
    let expected =
        ["server.listen", "admin.listen", "store.path", "store.retention", "store.max_size", "store.key", "store.allow_file_systems"];
    assert_eq!(paths, expected);
    let located: Vec<_> = refusals.iter().map(|refusal| refusal.located("routes.yaml").to_string()).collect();
    assert_eq!(located[0], "routes.yaml:1:19: server.listen: restart needed for this change (0.0.0.0:8080 → 0.0.0.0:8081)");
    assert!(located[5].contains("restart needed for this change (another key)"), "{}", located[5]);
    assert_eq!(located[3], "routes.yaml:3:34: store.retention: restart needed for this change (7d → 8d)");
    assert!(config::removed_destinations(&old.config, &old.config).is_empty());
}
