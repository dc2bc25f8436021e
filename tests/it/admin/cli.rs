//! The command line against an admin side on a real socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Parser as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use kurier::cli::{self, Cli, Exit};
use kurier::config::Scope;
use kurier::model::DeliveryId;
use kurier::store::Store as _;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::world::{START, World, token};

struct Served {
    world: World,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(world: World) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = world.admin.clone();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(admin.clone());
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let served = builder.serve_connection(TokioIo::new(stream), service).await;
                // Each call of the command line has its own connection, which it closes when it likes.
                drop(served);
            });
        }
    });
    Served { world, address, server }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn kurier(arguments: &[&str]) -> (Exit, String) {
    let cli = Cli::try_parse_from([&["kurier"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"));
    let captured = Captured::default();
    let exit = cli::run(cli, START, Box::new(captured.clone())).await;
    let bytes = captured.0.lock().clone();
    (exit, String::from_utf8(bytes).unwrap())
}

impl Served {
    async fn kurier(&self, arguments: &[&str]) -> (Exit, String) {
        kurier(&[arguments, &["--admin-url", &format!("http://{}", self.address)]].concat()).await
    }
}

#[tokio::test]
async fn a_dead_letter_can_be_listed_read_and_replayed() {
    let served = serve(World::open()).await;
    let id = served.world.event(1, "invoices", &["erp", "bookkeeping"]).await;
    served.world.kill(DeliveryId::new(id, 0)).await;
    let id_text = id.to_string();

    let (exit, table) = served.kurier(&["events", "list", "--state", "dead"]).await;
    assert_eq!(exit, Exit::Done);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 2, "{table}");
    for word in [&id_text, "invoices", "erp", "dead", "rejected: status 400"] {
        assert!(rows[1].contains(word), "{word} is missing in\n{table}");
    }

    let (exit, shown) = served.kurier(&["events", "show", &id_text]).await;
    assert_eq!(exit, Exit::Done);
    for word in ["400 no such invoice", "content-type: application/json", "{\"number\":1}", "POST /callbacks/invoices?tenant=acme"] {
        assert!(shown.contains(word), "{word} is missing in\n{shown}");
    }
    let (_, body) = served.kurier(&["events", "show", &id_text, "--body"]).await;
    assert_eq!(body, "{\"number\":1}");

    let (exit, said) = served.kurier(&["replay", &id_text, "--to", "erp", "--dry-run"]).await;
    assert_eq!((exit, said.trim()), (Exit::Done, format!("{id} would be replayed to erp").as_str()));
    let (exit, said) = served.kurier(&["replay", &id_text, "--to", "erp"]).await;
    assert_eq!((exit, said.trim()), (Exit::Done, format!("{id} is replayed to erp ({})", DeliveryId::new(id, 2)).as_str()));
    assert_eq!(served.world.store.record(id).await.unwrap().unwrap().deliveries.len(), 3);
}

#[tokio::test]
async fn a_list_goes_over_several_pages_and_says_where_to_go_on() {
    let served = serve(World::open()).await;
    for number in 0..700 {
        served.world.event(number, "invoices", &["erp"]).await;
    }
    let (exit, text) = served.kurier(&["events", "--json", "--limit", "600"]).await;
    assert_eq!(exit, Exit::Done);
    let page: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(page["items"].as_array().unwrap().len(), 600);
    let (_, text) = served.kurier(&["events", "--json", "--limit", "600", "--cursor", page["next_cursor"].as_str().unwrap()]).await;
    let rest: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (100, &Value::Null));
    let (_, table) = served.kurier(&["events", "--route", "none"]).await;
    assert_eq!(table, "");
}

#[tokio::test]
async fn destinations_are_listed_paused_and_resumed() {
    let served = serve(World::open()).await;
    assert_eq!(served.kurier(&["destinations", "pause", "erp"]).await, (Exit::Done, "erp is paused\n".to_owned()));
    let (_, table) = served.kurier(&["destinations"]).await;
    insta::assert_snapshot!(table, @r"
    DESTINATION  STATE   PENDING  OLDEST  DEAD  IN FLIGHT  WHERE                   DETAIL
    bookkeeping  active  0        -       0     0          https://erp.example.ch  -
    erp          paused  0        -       0     2          https://erp.example.ch  paused: by the operator `local`
    ");
    assert_eq!(served.kurier(&["destinations", "resume", "erp"]).await, (Exit::Done, "erp is active\n".to_owned()));
    let (_, json) = served.kurier(&["destinations", "list", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["items"].as_array().unwrap().len(), 2);
    assert_eq!(served.kurier(&["destinations", "pause", "erq"]).await.0, Exit::Failed);
}

#[tokio::test]
async fn a_token_is_sent_and_its_lack_is_a_failure() {
    let served = serve(World::with_tokens(vec![token("ops", &[Scope::Read], "secret")])).await;
    assert_eq!(served.kurier(&["events", "--token", "secret"]).await.0, Exit::Done);
    assert_eq!(served.kurier(&["events"]).await.0, Exit::Failed);
    assert_eq!(served.kurier(&["destinations", "pause", "erp", "--token", "secret"]).await.0, Exit::Failed);
    assert_eq!(served.kurier(&["health"]).await, (Exit::Done, "ready\n".to_owned()));
}

#[tokio::test]
async fn health_fails_while_the_server_is_not_ready_or_not_there() {
    let served = serve(World::open()).await;
    assert_eq!(served.kurier(&["health"]).await.0, Exit::Done);
    served.world.stopping.store(true, std::sync::atomic::Ordering::Release);
    assert_eq!(served.kurier(&["health"]).await.0, Exit::Failed);
    let address = served.address;
    drop(served);
    tokio::task::yield_now().await;
    assert_eq!(kurier(&["health", "--admin-url", &format!("http://{address}")]).await.0, Exit::Failed);
}

#[tokio::test]
async fn one_replay_that_fails_does_not_stop_the_others() {
    let served = serve(World::open()).await;
    let id = served.world.event(1, "invoices", &["erp"]).await.to_string();
    let (exit, said) = served.kurier(&["replay", "evt_01hf7yat1v0000000000000000", &id, "--json"]).await;
    assert_eq!(exit, Exit::Failed);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["items"][0]["event"], id);
}

#[tokio::test]
async fn a_filter_that_would_be_ignored_is_usage() {
    assert_eq!(kurier(&["events", "--state", "dead", "list", "--admin-url", "http://127.0.0.1:1"]).await.0, Exit::Usage);
    assert_eq!(kurier(&["events", "--json", "show", "evt_01hf7yat1v0000000000000000"]).await.0, Exit::Usage);
}

#[tokio::test]
async fn init_writes_a_file_once_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    let arguments = ["init", "--config", path.to_str().unwrap()];
    assert_eq!(kurier(&arguments).await.0, Exit::Done);
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, kurier(&["init", "--print"]).await.1);
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(kurier(&arguments).await.0, Exit::Failed);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[tokio::test]
async fn a_configuration_that_is_not_there_is_exit_3() {
    assert_eq!(kurier(&["check", "no/such/routes.yaml"]).await.0, Exit::Configuration);
    assert_eq!(kurier(&["events", "--config", "no/such/routes.yaml"]).await.0, Exit::Configuration);
    assert_eq!(kurier(&["send", "--config", "no/such/routes.yaml", "--route", "invoices"]).await.0, Exit::Configuration);
}

#[tokio::test]
async fn check_can_print_the_schema() {
    let (exit, text) = kurier(&["check", "--schema"]).await;
    assert_eq!(exit, Exit::Done);
    assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());
}

#[tokio::test]
async fn vectors_that_cannot_be_read_are_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.json");
    std::fs::write(&path, "{").unwrap();
    assert_eq!(kurier(&["verify", "--vectors", path.to_str().unwrap()]).await.0, Exit::Failed);
    assert_eq!(kurier(&["verify", "--vectors", "no/such.json"]).await.0, Exit::Failed);
    std::fs::write(&path, "[]").unwrap();
    assert_eq!(kurier(&["verify", "--vectors", path.to_str().unwrap()]).await, (Exit::Done, "0 passed, 0 failed\n".to_owned()));
}

#[tokio::test]
async fn every_new_secret_is_another_one() {
    let (_, first) = kurier(&["secret", "new"]).await;
    let (_, second) = kurier(&["secret", "new"]).await;
    assert!(first.starts_with("whsec_") && first != second);
}

#[test]
fn what_the_command_line_does_not_know_is_usage() {
    for arguments in [
        &["kurier", "events", "show", "evt_x"][..],
        &["kurier", "events", "--state", "lost"],
        &["kurier", "events", "--limit", "0"],
        &["kurier", "replay"],
        &["kurier", "replay", "dlv_1"],
        &["kurier", "destinations", "pause"],
        &["kurier", "events", "--admin-url", "127.0.0.1:9090"],
        &["kurier", "events", "--admin-url", "http://user:pw@127.0.0.1:9090"],
        &["kurier", "send"],
        &["kurier", "verify"],
        &["kurier", "check", "--schema", "routes.yaml"],
        &["kurier", "serve", "--log-format", "xml"],
        &["kurier", "start"],
    ] {
        let Err(error) = Cli::try_parse_from(arguments) else { panic!("{arguments:?} was accepted") };
        assert_eq!(error.exit_code(), 2, "{arguments:?}");
    }
}

#[test]
fn options_can_stand_before_and_after_the_command() {
    for arguments in [
        &["kurier", "--config", "x.yaml", "serve"][..],
        &["kurier", "serve", "--config", "x.yaml", "--log-format", "json"],
        &["kurier", "events", "show", "evt_01hf7yat1v0000000000000000", "--admin-url", "http://localhost:1", "--token", "t"],
        &["kurier", "events", "--admin-url", "http://localhost:1", "list"],
        &["kurier", "destinations", "--token", "t", "pause", "erp"],
        &["kurier", "events", "list", "--state", "dead", "--since", "2h", "--json", "--config", "x.yaml"],
        &["kurier", "check", "x.yaml", "--allow-missing-secrets"],
        &["kurier", "health", "--admin-url", "http://localhost:1"],
    ] {
        assert!(Cli::try_parse_from(arguments).is_ok(), "{arguments:?}");
    }
    assert!(Cli::try_parse_from(["kurier", "serve", "--log-format", "json"]).unwrap().logs_as_json());
}

#[cfg(feature = "demo")]
#[test]
fn the_help_names_every_command() {
    use clap::CommandFactory as _;

    let mut command = Cli::command().term_width(100);
    command.build();
    command.clone().debug_assert();
    insta::assert_snapshot!(command.render_help().to_string(), @r"
    A durable relay for webhooks and callbacks: verifies, stores, then delivers

    Usage: kurier [OPTIONS] <COMMAND>

    Commands:
      serve         Run the relay
      init          Write a commented routes.yaml to start from
      demo          Everything in one process: relay, a sample downstream, signed sample callbacks
      check         Check a configuration the way the start does, and name every problem
      verify        Run signature vectors, or explain one request: captured, or in quarantine
      events        Show events of a running server
      replay        Deliver stored events again
      destinations  Show, pause and resume destinations of a running server
      send          Send a correctly signed sample request to the running server
      secret        Make secrets
      store         Look at, check, repair, back up and restore the store's folder
      clock         Say that a clock which jumped is right
      health        Exit with 0 when the running server is ready
      help          Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>        The configuration [default: routes.yaml] [env: KURIER_CONFIG]
          --log-format <FORMAT>  The form of log lines on standard error; the variable KURIER_LOG
                                 filters them [env: KURIER_LOG_FORMAT] [default: text] [possible values:
                                 text, json]
      -h, --help                 Print help
      -V, --version              Print version

    Exit codes: 0 done, 1 a check, vector or test failed, 2 usage, 3 configuration, 4 store unusable, 5
    address in use
    ");
}

#[tokio::test]
async fn the_doctor_says_what_is_wrong_with_a_captured_request() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    write("secret", "It's a Secret to Everybody");
    let config = write(
        "routes.yaml",
        "routes: { code: { path: /in, verify: { preset: github, secrets: [{ file: secret }] }, deliver: [app] } }\ndestinations: { app: { url: https://app.example } }\n",
    );
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let request = |body: &str| {
        format!("POST /in HTTP/1.1\r\nHost: a.example\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let (right, wrong) = (write("right", &request("Hello, World!")), write("wrong", &request("Hello, World!\n")));
    let run = async |file: &str| kurier(&["--config", &config, "verify", "--route", "code", "--request", file]).await;
    let (exit, text) = run(&right).await;
    assert_eq!((exit, text.lines().last()), (Exit::Done, Some("accepted")), "{text}");
    let (exit, text) = run(&wrong).await;
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("NO  match") && text.contains("refused: mismatch"), "{text}");
    assert!(text.contains("it verifies if the body had no trailing newline: something in front of Kurier changes bodies"), "{text}");
    let (_, json) = kurier(&["--config", &config, "verify", "--route", "code", "--request", &wrong, "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["verdict"], "mismatch");
    assert_eq!(run("no/such/file").await.0, Exit::Failed);
    let (exit, _) = kurier(&["--config", &config, "verify", "--route", "codes", "--request", &right]).await;
    assert_eq!(exit, Exit::Usage);
}
