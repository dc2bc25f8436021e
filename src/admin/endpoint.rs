//! The table of everything that the admin side answers; the OpenAPI description is tested against it.

use http::Method;
use percent_encoding::percent_decode_str;

use super::problem::Problem;
use crate::config::Scope;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Live,
    Ready,
    Metrics,
    Describe,
    Events,
    Event,
    EventBody,
    Replay,
    Cancel,
    BeginReplay,
    Replays,
    ShowReplay,
    StopReplay,
    Refusals,
    Refusal,
    Release,
    Destinations,
    Pause,
    Resume,
    Authorize,
    Routes,
    PlaceOrder,
    Order,
    BelieveClock,
}

/// Who may ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone who can connect: probes have no tokens.
    Anyone,
    /// Whose token has this scope.
    Scope(Scope),
}

/// One row: a method and a path, one segment of which may be a `{parameter}`.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) action: Action,
}

impl Endpoint {
    /// Whether its request's body is read.
    pub(super) fn takes_body(&self) -> bool {
        matches!(self.action, Action::Replay | Action::BeginReplay | Action::Release | Action::PlaceOrder)
    }
}

/// An endpoint with the value of its parameter, decoded, several with a slash in between; empty when it has none.
#[derive(Debug)]
pub(super) struct Matched {
    pub(super) endpoint: &'static Endpoint,
    pub(super) parameter: String,
}

const fn row(method: Method, path: &'static str, access: Access, action: Action) -> Endpoint {
    Endpoint { method, path, access, action }
}

const READ: Access = Access::Scope(Scope::Read);
const OPERATE: Access = Access::Scope(Scope::Operate);
const ORDERS: Access = Access::Scope(Scope::Orders);

pub(super) static ENDPOINTS: [Endpoint; 24] = [
    row(Method::GET, "/livez", Access::Anyone, Action::Live),
    row(Method::GET, "/readyz", Access::Anyone, Action::Ready),
    row(Method::GET, "/metrics", READ, Action::Metrics),
    row(Method::GET, "/api/v1/openapi.json", READ, Action::Describe),
    row(Method::GET, "/api/v1/events", READ, Action::Events),
    row(Method::GET, "/api/v1/events/{id}", READ, Action::Event),
    row(Method::GET, "/api/v1/events/{id}/body", READ, Action::EventBody),
    row(Method::POST, "/api/v1/events/{id}/replay", OPERATE, Action::Replay),
    row(Method::POST, "/api/v1/replays", OPERATE, Action::BeginReplay),
    row(Method::GET, "/api/v1/replays", READ, Action::Replays),
    row(Method::GET, "/api/v1/replays/{id}", READ, Action::ShowReplay),
    row(Method::DELETE, "/api/v1/replays/{id}", OPERATE, Action::StopReplay),
    row(Method::GET, "/api/v1/refusals", READ, Action::Refusals),
    row(Method::GET, "/api/v1/refusals/{id}", READ, Action::Refusal),
    row(Method::POST, "/api/v1/refusals/release", OPERATE, Action::Release),
    row(Method::POST, "/api/v1/deliveries/{id}/cancel", OPERATE, Action::Cancel),
    row(Method::GET, "/api/v1/destinations", READ, Action::Destinations),
    row(Method::POST, "/api/v1/destinations/{name}/pause", OPERATE, Action::Pause),
    row(Method::POST, "/api/v1/destinations/{name}/resume", OPERATE, Action::Resume),
    row(Method::POST, "/api/v1/destinations/{name}/authorize", OPERATE, Action::Authorize),
    row(Method::POST, "/api/v1/clock/believe", OPERATE, Action::BelieveClock),
    row(Method::GET, "/api/v1/routes", READ, Action::Routes),
    row(Method::POST, "/api/v1/inpasy/{route}/orders", ORDERS, Action::PlaceOrder),
    row(Method::GET, "/api/v1/inpasy/{route}/orders/{lid}", ORDERS, Action::Order),
];

/// The endpoint that this request asks for. HEAD is answered wherever GET is.
pub(super) fn find(method: &Method, path: &str) -> Result<Matched, Problem> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for endpoint in &ENDPOINTS {
        let Some(parameter) = parameter_of(endpoint.path, path) else { continue };
        if endpoint.method == *method {
            return Ok(Matched { endpoint, parameter });
        }
        allowed.push(endpoint.method.as_str());
    }
    if allowed.is_empty() {
        return Err(Problem::not_found("unknown_path", "there is nothing at this path; GET /api/v1/openapi.json says what there is"));
    }
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    Err(Problem::method_not_allowed(&allowed.join(", ")))
}

/// The value of the pattern's parameter in this path, several with a slash in between; `None` when the path is another one.
fn parameter_of(pattern: &str, path: &str) -> Option<String> {
    let mut parameter = String::new();
    let (mut expected, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return Some(parameter),
            (Some(name), Some(segment)) if name.starts_with('{') && !segment.is_empty() => {
                if !parameter.is_empty() {
                    parameter.push('/');
                }
                parameter.push_str(&percent_decode_str(segment).decode_utf8().ok()?);
            }
            (Some(literal), Some(segment)) if literal == segment => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_path_matches_whole_segments_and_its_parameter_is_decoded() {
        assert_eq!(parameter_of("/a/{id}/b", "/a/x%20y/b").as_deref(), Some("x y"));
        assert_eq!(parameter_of("/a/{id}/b", "/a//b"), None);
        assert_eq!(parameter_of("/a/{id}", "/a/1/"), None);
        assert_eq!(parameter_of("/a/{id}", "/a/%ff"), None);
        assert_eq!(parameter_of("/a", "/a").as_deref(), Some(""));
        assert_eq!(parameter_of("/a/{x}/b/{y}", "/a/1/b/2").as_deref(), Some("1/2"));
    }

    #[test]
    fn a_known_path_with_another_method_says_which_it_takes() {
        let problem = find(&Method::DELETE, "/api/v1/events").unwrap_err().into_response();
        assert_eq!(problem.status(), 405);
        assert_eq!(problem.headers()["allow"], "GET, HEAD");
        assert_eq!(find(&Method::HEAD, "/livez").unwrap().endpoint.action, Action::Live);
    }

    #[test]
    fn the_description_names_exactly_what_exists() {
        let description: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                described.insert((path.clone(), method.to_uppercase()));
            }
        }
        let existing = ENDPOINTS.iter().map(|endpoint| (endpoint.path.to_owned(), endpoint.method.to_string())).collect();
        assert_eq!(described, existing);
    }

    #[test]
    fn the_description_names_the_scope_that_each_endpoint_needs() {
        let description: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        for endpoint in &ENDPOINTS {
            let operation = &description["paths"][endpoint.path][endpoint.method.as_str().to_lowercase()];
            let expected = match endpoint.access {
                Access::Anyone => serde_json::json!([]),
                Access::Scope(scope) => serde_json::json!([{ "token": [scope.word()] }]),
            };
            assert_eq!(operation["security"], expected, "{}", endpoint.path);
        }
    }
}
