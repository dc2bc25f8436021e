//! routes.yaml as data: every key there is, what it may hold, what counts without it, and what it does.
//!
//! Defaults are said here for people; `compile` takes them from `limits` and from the settings' own
//! `Default`, and a test holds the two together.

use super::limits::{
    BODY_BYTES_MAX, CONCURRENCY_MAX, CONNECTIONS_MAX, DAY_MS, DURATION_MS_MAX, HEAD_BYTES_MAX, HEAD_BYTES_MIN, HOUR_MS,
    IN_FLIGHT_BYTES_MAX, KIB, MINUTE_MS, QUARANTINE_KEEP_MAX, SECOND_MS, STORE_BYTES_MAX, STORE_BYTES_MIN, WAIT_MS_MAX,
};
use super::table::{Field, Keys, Shape, Table};
use systems::{ACKNOWLEDGE, BANKINTEGRATION, INPASY, PAYJOE, PULL, SMARTBUSINESS};

const NOT_YET: &str = "not available yet";

const fn later(name: &'static str, doc: &'static str) -> Field {
    Field::new(name, Shape::Later(NOT_YET), doc)
}

/// The whole file.
pub(super) static ROOT: Table = Table {
    name: "routes.yaml",
    doc: "Configuration of Kurier.",
    one: false,
    fields: &[
        Field::new("server", Shape::Object(&SERVER), "The public side: where senders connect."),
        Field::new("admin", Shape::Object(&ADMIN), "The operator's side: API, metrics, health."),
        Field::new("store", Shape::Object(&STORE), "Where events are kept."),
        Field::new(
            "routes",
            Shape::Map { of: &Shape::Object(&ROUTE), keys: Keys::Names },
            "What comes in where, how it is trusted, where it goes.",
        )
        .required(),
        Field::new(
            "destinations",
            Shape::Map { of: &Shape::Object(&DESTINATION), keys: Keys::Names },
            "Where events are delivered. Names are identity: what is pending for a removed one ends dead.",
        ),
        Field::new(
            "notify",
            Shape::Destination,
            "The destination that gets an event for what a person should know: a dead letter, a deadline that passed, a paused destination.",
        ),
        Field::new("key_sources", KEY_SOURCES, "Where keys are fetched that a scheme names as `remote:NAME`."),
        later("tests", "Sample requests that `kurier check` runs."),
    ],
};

static SERVER: Table = Table {
    name: "server",
    doc: "The public side.",
    one: false,
    fields: &[
        Field::new("listen", Shape::Socket, "Address and port. A change needs a restart.").default("0.0.0.0:8080"),
        Field::new("public_url", Shape::Url, "What senders call; schemes that sign the URL need it."),
        Field::new(
            "trusted_proxies",
            Shape::List { of: &Shape::Net, min: 0 },
            "Peers whose X-Forwarded-* headers are believed; nobody's are otherwise.",
        ),
        Field::new("tls", Shape::Object(&SERVER_TLS), "Where TLS ends here. The files are read again when they change."),
        Field::new("limits", Shape::Object(&SERVER_LIMITS), "What one sender, and all together, may use."),
        Field::new("grace", Shape::Duration { min: SECOND_MS, max: HOUR_MS }, "How long a stop may take to finish what was begun.")
            .default("25s"),
    ],
};

static SERVER_TLS: Table = Table {
    name: "server_tls",
    doc: "TLS of the public side.",
    one: false,
    fields: &[
        Field::new("cert", Shape::File, "Certificate chain, PEM.").required(),
        Field::new("key", Shape::File, "Private key, PEM.").required(),
        Field::new("client_ca", Shape::File, "Authorities whose client certificates are required, PEM."),
    ],
};

static SERVER_LIMITS: Table = Table {
    name: "server_limits",
    doc: "Limits of the public side.",
    one: false,
    fields: &[
        Field::new("body", Shape::Size { min: 1, max: BODY_BYTES_MAX }, "Longest body, unless preset or route say otherwise.")
            .default("1MiB"),
        Field::new("headers", Shape::Size { min: HEAD_BYTES_MIN, max: HEAD_BYTES_MAX }, "Longest request head.").default("64KiB"),
        Field::new(
            "read_timeout",
            Shape::Duration { min: 10, max: HOUR_MS },
            "Longest time for a complete head, and between two reads of a body.",
        )
        .default("10s"),
        Field::new("connections", Shape::Integer { min: 1, max: CONNECTIONS_MAX }, "Most connections at a time.").default("10000"),
        Field::new(
            "in_flight",
            Shape::Size { min: 64 * KIB, max: IN_FLIGHT_BYTES_MAX },
            "Most body bytes held at a time, by all requests together.",
        )
        .default("64MiB"),
        Field::new("per_address", Shape::Rate, "Requests per sender address, counted before verification."),
    ],
};

static ADMIN: Table = Table {
    name: "admin",
    doc: "The operator's side.",
    one: false,
    fields: &[
        Field::new("listen", Shape::Socket, "Address and port; another address than loopback requires tokens. A change needs a restart.")
            .default("127.0.0.1:9090"),
        Field::new("tokens", Shape::List { of: &Shape::Object(&TOKEN), min: 1 }, "Who may do what."),
        Field::new("token", Shape::Secret, "Short for one token with all scopes."),
    ],
};

static TOKEN: Table = Table {
    name: "token",
    doc: "One operator's token.",
    one: false,
    fields: &[
        Field::new("name", Shape::Text, "Its name in the audit.").required(),
        Field::new("scopes", Shape::List { of: &Shape::Word(&["read", "operate", "orders"]), min: 1 }, "What it allows.").required(),
        Field::new("secret", Shape::Secret, "The token itself.").required(),
    ],
};

/// The file systems that the store refuses unless they are allowed.
const FILE_SYSTEMS: &[&str] = &[
    "nfs", "smb", "cifs", "ncp", "afs", "coda", "9p", "virtiofs", "vboxsf", "vmhgfs", "ceph", "lustre", "beegfs", "gfs2", "ocfs2", "gpfs",
    "fuse", "overlay", "aufs", "ecryptfs",
];

static STORE: Table = Table {
    name: "store",
    doc: "The embedded store. A change needs a restart.",
    one: false,
    fields: &[
        Field::new("path", Shape::Folder, "Its folder.").default("./data"),
        Field::new("retention", Shape::Duration { min: MINUTE_MS, max: DURATION_MS_MAX }, "How long settled events are kept.")
            .default("7d"),
        Field::new(
            "max_size",
            Shape::Size { min: STORE_BYTES_MIN, max: STORE_BYTES_MAX },
            "Most bytes on disk; pending events are never dropped for it.",
        )
        .default("20GiB"),
        Field::new("key", Shape::Secret, "Seals the tokens that Kurier obtains; at least 32 bytes. Without it none can be kept."),
        Field::new(
            "allow_file_systems",
            Shape::List { of: &Shape::Word(FILE_SYSTEMS), min: 1 },
            "Network and union file systems that the store may lie on all the same; the promise is then only as good as theirs.",
        ),
        Field::new("postgres", Shape::Later("comes in a later version"), "A shared store for several machines."),
    ],
};

static ROUTE: Table = Table {
    name: "route",
    doc: "A rule: what comes in here, how it is trusted, where it goes.",
    one: false,
    fields: &[
        Field::new("path", Shape::Path, "Matched exactly, byte for byte; `{name}` stands for one segment."),
        Field::new("path_secret", Shape::Secret, "Fills the segment named `{secret}`."),
        Field::new(
            "methods",
            Shape::List { of: &Shape::Word(&["GET", "POST", "PUT", "PATCH", "DELETE"]), min: 1 },
            "Which methods it takes; the preset's, else POST.",
        ),
        Field::new("verify", Shape::Verify, "Who is believed: a preset, a scheme, or the word `none`."),
        Field::new("dedupe", Shape::Object(&DEDUPE), "What makes two requests the same."),
        Field::new(
            "order_by",
            Shape::Short { short: &Shape::Template, long: &ORDER_BY },
            "The lane: deliveries of one lane go one after the other.",
        ),
        Field::new("limits", Shape::Object(&ROUTE_LIMITS), "Limits of this route."),
        Field::new(
            "respond",
            Shape::Object(&RESPOND),
            "What an accepted request is answered; the preset's answer, else 200 without a body.",
        ),
        Field::new(
            "deliver",
            Shape::List { of: &Shape::Short { short: &Shape::Destination, long: &DELIVER }, min: 1 },
            "Where its events go.",
        )
        .required(),
        Field::new(
            "quarantine",
            Shape::Object(&QUARANTINE),
            "Keeps requests that are not authenticated, untrusted and undelivered, until they are released or too old.",
        ),
        Field::new(
            "acknowledge",
            Shape::Object(&ACKNOWLEDGE),
            "The call back to the source: of an event's result, or that a subscription is wanted.",
        ),
        Field::new(
            "pull",
            Shape::Object(&PULL),
            "Fetching events instead of waiting for them: instead of `path`, `verify` and what belongs to them.",
        ),
        Field::new(
            "inpasy",
            Shape::System(&INPASY),
            "Orders of InPaSy: they are placed through the admin API and completed by what comes in here.",
        ),
    ],
};

const KEY_SOURCES: Shape = Shape::Map { of: &Shape::Object(&KEY_SOURCE), keys: Keys::Names };
const MEMBERS: Shape = Shape::Map { of: &Shape::TextOrSecret, keys: Keys::Names };

static KEY_SOURCE: Table = Table {
    name: "key_source",
    doc: "An API that gives a sender's public key by its id.",
    one: false,
    fields: &[
        Field::new("url", Shape::Text, "Where it is; `{id}` stands for the key's id, percent-encoded.").required(),
        Field::new("auth", Shape::Object(&AUTH), "Credentials; one kind of them."),
        Field::new("body", MEMBERS, "Posted as a JSON object; the text `{id}` stands for the key's id. Without it, a GET."),
        Field::new("pointer", Shape::Text, "The JSON pointer to the key in the answer; without it the answer is the key."),
    ],
};

static DEDUPE: Table = Table {
    name: "dedupe",
    doc: "What makes two requests the same.",
    one: false,
    fields: &[
        Field::new("key", Shape::Template, "The key; the preset's where it is unique per request, else the body's hash."),
        Field::new("window", Shape::Duration { min: 0, max: DURATION_MS_MAX }, "For how long a key is remembered; `0s`: no deduplication.")
            .default("3d"),
    ],
};

static ORDER_BY: Table = Table {
    name: "order_by",
    doc: "Lanes: deliveries of one lane go one after the other.",
    one: false,
    fields: &[
        Field::new("key", Shape::Template, "The lane; deliveries with the same text are in the same one.").required(),
        Field::new(
            "failing",
            Shape::Short { short: &Shape::Word(&["block", "skip"]), long: &FAILING },
            "What a failing delivery does to its lane: hold it up until it is delivered or dead, or let it go on at once.",
        )
        .default("block"),
    ],
};

static FAILING: Table = Table {
    name: "failing",
    doc: "What a failing delivery does to its lane.",
    one: true,
    fields: &[Field::new("park", Shape::Object(&PARK), "The lane goes on without it after some attempts; it is tried on by itself.")],
};

static PARK: Table = Table {
    name: "park",
    doc: "When a failing delivery steps out of its lane.",
    one: false,
    fields: &[Field::new("after", Shape::Integer { min: 1, max: 1_000_000 }, "After so many failed attempts.").required()],
};

static ROUTE_LIMITS: Table = Table {
    name: "route_limits",
    doc: "Limits of one route.",
    one: false,
    fields: &[
        Field::new("rate", Shape::Rate, "Requests per time, counted after verification."),
        Field::new("body", Shape::Size { min: 1, max: BODY_BYTES_MAX }, "Longest body; the preset's, else the server's."),
    ],
};

static QUARANTINE: Table = Table {
    name: "quarantine",
    doc: "How many requests that are not authenticated are kept, and for how long.",
    one: false,
    fields: &[
        Field::new("keep", Shape::Integer { min: 1, max: QUARANTINE_KEEP_MAX }, "Most of them; a new one takes the oldest one's place.")
            .default("1000"),
        Field::new(
            "max_age",
            Shape::Duration { min: SECOND_MS, max: DURATION_MS_MAX },
            "For how long one is kept; no longer than `store.retention`.",
        )
        .default("3d"),
    ],
};

static RESPOND: Table = Table {
    name: "respond",
    doc: "What an accepted request is answered.",
    one: false,
    fields: &[
        Field::new("status", Shape::Integer { min: 200, max: 299 }, "A 2xx status.").default("200"),
        Field::new("content_type", Shape::MediaType, "The content type of the body."),
        Field::new("body", Shape::Body, "The body."),
        Field::new(
            "wait",
            Shape::Duration { min: 1, max: WAIT_MS_MAX },
            "Wait so long for the destinations' outcome before the answer; the event is durable before that.",
        ),
        Field::new("delivered", Shape::Object(&ANSWER), "The answer when it was delivered in time."),
        Field::new("dead", Shape::Object(&ANSWER), "The answer when it ended dead in time."),
        Field::new("otherwise", Shape::Object(&ANSWER), "The answer when time ran out, or nothing was to be delivered."),
    ],
};

static ANSWER: Table = Table {
    name: "answer",
    doc: "An answer.",
    one: false,
    fields: &[
        Field::new("status", Shape::Integer { min: 200, max: 299 }, "A 2xx status.").default("200"),
        Field::new("content_type", Shape::MediaType, "The content type of the body."),
        Field::new("body", Shape::Body, "The body."),
    ],
};

static DELIVER: Table = Table {
    name: "deliver",
    doc: "One destination of a route.",
    one: false,
    fields: &[
        Field::new("to", Shape::Destination, "The destination's name.").required(),
        Field::new("when", Shape::Text, "A jq condition over the event; when it is false or null, the delivery ends skipped."),
        Field::new("transform", Shape::Text, "A jq program over the event; the one value that it makes is the JSON body."),
    ],
};

static DESTINATION: Table = Table {
    name: "destination",
    doc: "Where events are delivered.",
    one: false,
    fields: &[
        Field::new("url", Shape::Url, "Where it is; or one of the systems below."),
        Field::new("as", Shape::Word(&["original", "json", "cloudevents"]), "In what shape events are sent.").default("original"),
        Field::new("sign", Shape::Object(&SIGN), "Signs in Standard Webhooks form."),
        Field::new("auth", Shape::Object(&AUTH), "Credentials, added at send time; one kind of them."),
        Field::new(
            "headers",
            Shape::Map { of: &Shape::HeaderValue, keys: Keys::Headers },
            "Further headers; secret ones belong under `auth`.",
        ),
        Field::new("timeout", Shape::Duration { min: 10, max: 10 * MINUTE_MS }, "Longest time for one attempt.").default("15s"),
        Field::new("retry", Shape::Object(&RETRY), "When to try again; full jitter, Retry-After is honoured."),
        Field::new("limits", Shape::Object(&DESTINATION_LIMITS), "What it can take."),
        Field::new("breaker", Shape::Object(&BREAKER), "When to leave it alone for a while."),
        Field::new("tls", Shape::Object(&CLIENT_TLS), "Its own trust and our identity."),
        Field::new("payjoe", Shape::System(&PAYJOE), "Uploads to PayJoe: one event is one payment record."),
        Field::new("bankintegration", Shape::System(&BANKINTEGRATION), "Payments through BankIntegration.dk: one event is one request."),
        Field::new("smartbusiness", Shape::System(&SMARTBUSINESS), "Requests to PostFinance SmartBusiness: one event is one of them."),
    ],
};

static SIGN: Table = Table {
    name: "sign",
    doc: "Signing in Standard Webhooks form.",
    one: false,
    fields: &[Field::new(
        "secrets",
        Shape::List { of: &Shape::Secret, min: 1 },
        "One signature per secret: old and new during a rotation.",
    )
    .required()],
};

pub(super) static AUTH: Table = Table {
    name: "auth",
    doc: "Credentials, one kind of them.",
    one: true,
    fields: &[
        Field::new("bearer", Shape::Secret, "`Authorization: Bearer …`."),
        Field::new("basic", Shape::Object(&BASIC), "`Authorization: Basic …`."),
        Field::new("header", Shape::Map { of: &Shape::Secret, keys: Keys::Headers }, "Headers with secret values."),
        Field::new("oauth2", Shape::Object(&OAUTH2), "`Authorization: Bearer …` with a token that a token endpoint gives to the client."),
    ],
};

static OAUTH2: Table = Table {
    name: "oauth2",
    doc: "The client credentials grant of OAuth 2.0; tokens are renewed before they end.",
    one: false,
    fields: &[
        Field::new("token_url", Shape::Url, "Where tokens are had.").required(),
        Field::new("client_id", Shape::TextOrSecret, "The client's id.").required(),
        Field::new("client_secret", Shape::Secret, "The client's secret.").required(),
        Field::new("scopes", Shape::List { of: &Shape::Text, min: 0 }, "What is asked for."),
        Field::new("client_auth", Shape::Word(&["body", "basic"]), "Whether id and secret stand in the body or in a header.")
            .default("body"),
        Field::new("token_format", Shape::Word(&["form", "json"]), "How the request is written; `form` is the standard.").default("form"),
    ],
};

static BASIC: Table = Table {
    name: "basic",
    doc: "Basic credentials.",
    one: false,
    fields: &[
        Field::new("user", Shape::TextOrSecret, "User name.").required(),
        Field::new("password", Shape::Secret, "Password.").required(),
    ],
};

pub(super) static RETRY: Table = Table {
    name: "retry",
    doc: "When to try again.",
    one: false,
    fields: &[
        Field::new("first", Shape::Duration { min: 1, max: 7 * DAY_MS }, "Upper bound of the first gap.").default("5s"),
        Field::new("factor", Shape::Factor { min: 1.0, max: 100.0 }, "By how much the bound grows with each attempt.").default("2"),
        Field::new("min", Shape::Duration { min: 1, max: 7 * DAY_MS }, "The shortest gap.").default("1s"),
        Field::new("max", Shape::Duration { min: 1, max: 7 * DAY_MS }, "The longest gap; Retry-After is clamped to it.").default("1h"),
        Field::new("max_age", Shape::Duration { min: 1, max: DURATION_MS_MAX }, "Dead when older than this, and attempted at least once.")
            .default("3d"),
        Field::new("max_attempts", Shape::Integer { min: 1, max: 1_000_000 }, "Dead after so many attempts; no such bound unless set."),
        Field::new("never", Shape::List { of: &Shape::Integer { min: 300, max: 599 }, min: 0 }, "Statuses that mean: never try again.")
            .default("[400, 413, 422]"),
    ],
};

static DESTINATION_LIMITS: Table = Table {
    name: "destination_limits",
    doc: "What a destination can take.",
    one: false,
    fields: &[
        Field::new("concurrency", Shape::Integer { min: 1, max: CONCURRENCY_MAX }, "Most attempts at a time.").default("16"),
        Field::new("rate", Shape::Rate, "Attempts per time."),
    ],
};

static BREAKER: Table = Table {
    name: "breaker",
    doc: "When to leave a destination alone for a while.",
    one: false,
    fields: &[
        Field::new("failures", Shape::Integer { min: 1, max: 1_000_000 }, "Opens after so many failures in a row.").default("10"),
        Field::new("cool_down", Shape::Duration { min: 1, max: DAY_MS }, "Stays open for so long, then lets one attempt through.")
            .default("30s"),
    ],
};

static CLIENT_TLS: Table = Table {
    name: "client_tls",
    doc: "Trust and identity towards one destination.",
    one: false,
    fields: &[
        Field::new("ca", Shape::File, "Authorities trusted instead of the system's, PEM."),
        Field::new("client_cert", Shape::File, "Our certificate chain, PEM; needs `client_key`."),
        Field::new("client_key", Shape::File, "Our private key, PEM; needs `client_cert`."),
    ],
};

/// `{ env }` or `{ file }`.
pub(super) static SECRET: Table = Table {
    name: "secret",
    doc: "A secret; never a literal in this file.",
    one: false,
    fields: &[
        Field::new("env", Shape::Text, "The environment variable that holds it."),
        Field::new("file", Shape::File, "The file that holds it; one newline at its end is not part of it."),
        Field::new("not_after", Shape::Text, "After this time (RFC 3339) it no longer counts."),
    ],
};

mod systems;
#[cfg(test)]
mod tests;
