//! A request made from an event: a method and a path, whose placeholders are read from the event.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::AUTHORIZATION;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use url::Url;

use crate::connectors::{Request, bearer, text};
use crate::model::Secret;
use crate::signature::Template;

/// Longest value of a placeholder.
const VALUE_BYTES_MAX: usize = 200;

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A checked request template, such as `POST /receivables/invoices/{json:/id}/payments`.
#[derive(Clone)]
pub struct RequestTemplate {
    /// The method.
    pub method: Method,
    parts: Arc<[Part]>,
}

enum Part {
    Literal(String),
    /// The placeholder as written, and compiled.
    Value(String, Template),
}

/// Why no request can be made of an event; it won't be another time either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateProblem {
    /// A placeholder has no value.
    #[error("the event has no one value for `{0}` of the request's path")]
    NoValue(String),
    /// A value can't stand in a path.
    #[error("the value of `{0}` can't stand in a path")]
    Value(String),
    /// The body is not JSON.
    #[error("the body is not JSON; the route's `transform` makes one of it")]
    NoJson,
    /// The token.
    #[error("the access token can't stand in a header")]
    Token,
    /// The url.
    #[error("the request's url can't be built")]
    Url,
}

impl RequestTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub fn new(written: &str) -> Result<Self, String> {
        let wrong = || "is not a method and a path such as `POST /receivables/invoices`".to_owned();
        let (method, path) = written.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        let method = match method {
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            _ => return Err(format!("the method `{}` is none of POST, PUT, PATCH, DELETE", text::quoted(method))),
        };
        let path = path.trim().strip_prefix('/').filter(|path| !path.is_empty()).ok_or_else(wrong)?;
        if path.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\')) {
            return Err("the path holds a blank, a query or a fragment".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = path;
        while let Some(start) = rest.find('{') {
            let end = rest[start..].find('}').map(|end| start + end + 1).ok_or("a `{` of the path is not closed")?;
            parts.push(Part::Literal(rest[..start].to_owned()));
            let placeholder = &rest[start..end];
            let compiled = Template::compile(placeholder).map_err(|message| format!("`{placeholder}`: {message}"))?;
            parts.push(Part::Value(placeholder.to_owned(), compiled));
            rest = &rest[end..];
        }
        parts.push(Part::Literal(rest.to_owned()));
        let dotted = |part: &Part| matches!(part, Part::Literal(text) if text.split('/').any(|segment| matches!(segment, "." | "..")));
        if rest.contains('}') || parts.iter().any(dotted) {
            return Err(wrong());
        }
        Ok(Self { method, parts: parts.into() })
    }

    /// The request. `value` renders a placeholder for the event; `body` is the event's, or what `transform` made of it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn request(
        &self,
        base: &Url,
        body: Bytes,
        access: &Secret,
        value: impl Fn(&Template) -> Option<Vec<u8>>,
    ) -> Result<Request, TemplateProblem> {
        let mut path = String::new();
        for part in &*self.parts {
            match part {
                Part::Literal(text) => path.push_str(text),
                Part::Value(written, template) => {
                    let value =
                        value(template).filter(|value| !value.is_empty()).ok_or_else(|| TemplateProblem::NoValue(written.clone()))?;
                    // Dots mean another folder even when they are escaped.
                    if value.len() > VALUE_BYTES_MAX || value.iter().all(|byte| *byte == b'.') {
                        return Err(TemplateProblem::Value(written.clone()));
                    }
                    path.extend(percent_encode(&value, ESCAPED));
                }
            }
        }
        if !body.is_empty() && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() {
            return Err(TemplateProblem::NoJson);
        }
        let url = base.join(&format!("./{path}")).map_err(|_error| TemplateProblem::Url)?;
        let mut request = Request::json(self.method.clone(), url, body);
        request.headers.insert(AUTHORIZATION, bearer(access).map_err(|_error| TemplateProblem::Token)?);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(template: &str, value: &str) -> Result<String, TemplateProblem> {
        let base: Url = "https://api.example/v2/".parse().unwrap();
        let template = RequestTemplate::new(template).unwrap();
        let request = template.request(&base, Bytes::from_static(b"{}"), &Secret::new(b"t".to_vec()), |_| Some(value.into()))?;
        assert!(request.headers[AUTHORIZATION].is_sensitive());
        Ok(request.url.into())
    }

    #[test]
    fn a_path_is_filled_and_a_value_never_leads_elsewhere() {
        assert_eq!(url("POST /receivables/invoices", "").as_deref(), Ok("https://api.example/v2/receivables/invoices"));
        let payments = "POST /receivables/invoices/{json:/id}/payments";
        assert_eq!(url(payments, "7").as_deref(), Ok("https://api.example/v2/receivables/invoices/7/payments"));
        assert_eq!(url(payments, "../x?y#z").as_deref(), Ok("https://api.example/v2/receivables/invoices/..%2Fx%3Fy%23z/payments"));
        for value in [".", "..", "...", &"x".repeat(201)] {
            assert!(matches!(url(payments, value), Err(TemplateProblem::Value(_))), "{value}");
        }
        assert_eq!(url(payments, ""), Err(TemplateProblem::NoValue("{json:/id}".to_owned())));
        assert_eq!(url("PUT //evil.example/x", "").as_deref(), Ok("https://api.example/v2//evil.example/x"));
    }

    #[test]
    fn a_template_is_checked_when_it_is_written() {
        for bad in [
            "",
            "POST",
            "POST receivables",
            "GET /x",
            "POST /",
            "POST /x?y=1",
            "POST /a b",
            "POST /{json:/id",
            "POST /x}",
            "POST /{nope}",
            "POST /../x",
        ] {
            assert!(RequestTemplate::new(bad).is_err(), "{bad}");
        }
        let base: Url = "https://api.example/v2/".parse().unwrap();
        let template = RequestTemplate::new("POST /x").unwrap();
        let request = |body: &'static [u8], token: &[u8]| {
            template.request(&base, Bytes::from_static(body), &Secret::new(token.to_vec()), |_| None).map(|_| ())
        };
        assert_eq!(request(b"<xml/>", b"t"), Err(TemplateProblem::NoJson));
        assert_eq!(request(b"{}", b"a\nb"), Err(TemplateProblem::Token));
        assert_eq!(request(b"", b"t"), Ok(()));
    }
}
