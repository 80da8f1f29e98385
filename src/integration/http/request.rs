//! The request that is made of an uplink.
//!
//! Everything that does not depend on the uplink is made and checked once. What the user sets wins over what we would
//! send, except for the headers that frame the message: a wrong length or a `Connection: close` there would break the
//! delivery of uplinks that are all right, so they are refused when the configuration is read.

use ureq::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use ureq::http::{self, Request};

use super::batch::BatchBody;
use super::client::Sending;
use super::target::{Target, may_be_key};
use super::{compress, kept};
use crate::config::{BatchFormat, Compress, Http, Integration, Method, Problem, Secret, Spot};
use crate::delivery::outcome::{Failure, Layer};
use crate::dial::{BUFFER_BYTES, Dial};
use crate::flow::Variant;
use crate::history::Exchange;
use crate::integration::auth::{Credentials, Surroundings, hidden};
use crate::integration::way::Way;
use crate::render::{Message, Purpose, RenderError, Template, percent_encode};

/// Headers that frame a message (RFC 9112, sections 6 and 9, and what goes with them).
const FRAMING: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// The longest URL and the longest header value, in bytes. Each must fit into the output buffer with its name, and few
/// servers take more.
const MAX_LINE_BYTES: usize = BUFFER_BYTES - 512;

/// A request, and what may be shown of it.
pub(super) struct Made {
    pub(super) request: Request<Vec<u8>>,
    pub(super) exchange: Exchange,
}

/// What is about the attempt and not about the uplink: in headers and in no body, so that every attempt has the same.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    /// From 1.
    pub(super) number: u32,
    /// How long the uplink was held, the first of a batch; see [`hold_ms`](crate::integration::way::hold_ms).
    pub(super) hold_ms: Option<u64>,
}

/// Makes the requests of one integration. Holds secrets, so it has no `Debug`.
pub(super) struct RequestMaker {
    method: http::Method,
    url: Template,
    headers: Vec<(HeaderName, Template)>,
    credentials: Credentials,
    compress: Compress,
    ways: Vec<Way>,
    batch_format: BatchFormat,
    /// What an answer must not show, besides the credentials.
    hidden: Vec<String>,
}

impl RequestMaker {
    pub(super) fn try_new(
        gateway: &str,
        integration: &Integration,
        http: &Http,
        target: &Target,
        variants: &[Variant],
        dial: &Dial,
    ) -> Result<RequestMaker, Vec<Problem>> {
        let mut problems = Vec::new();
        let table = format!("integration.{}", *integration.name);
        let ways = kept(Way::all(integration, variants), &mut problems);
        let host = target.peer.host.as_str();
        let around = Surroundings { gateway, host, url: &http.url, timeout: http.timeout, dial };
        let credentials =
            kept(Credentials::try_new(&format!("{table}.auth"), &integration.auth, &around), &mut problems);
        let taken = credentials.as_ref().and_then(Credentials::header_name);
        let headers = kept(headers(&format!("{table}.headers"), &http.headers, taken), &mut problems);
        if *http.batch > 1 {
            let headers = headers.as_deref().unwrap_or_default();
            problems.extend(no_batch(
                &table,
                http,
                &target.url,
                headers,
                ways.as_deref().unwrap_or_default(),
            ));
        }
        match (ways, credentials, headers) {
            (Some(ways), Some(credentials), Some(headers)) if problems.is_empty() => Ok(RequestMaker {
                method: method(http.method),
                url: target.url.clone(),
                headers,
                credentials,
                compress: *http.compress,
                ways,
                batch_format: http.batch_format,
                hidden: keys_of(target, &http.headers),
            }),
            _ => Err(problems),
        }
    }

    /// One of the integration's variants.
    pub(super) fn way(&self, variant: usize) -> Option<&Way> {
        self.ways.get(variant)
    }

    /// The request for `message` on this way. A failure blames the record, or says why there is no token.
    pub(super) fn make(
        &self,
        way: &Way,
        message: &Message<'_>,
        sending: &Sending<'_>,
        attempt: Attempt,
    ) -> Result<Made, Failure> {
        let body = way.renderer.body(message)?;
        let templates = std::iter::once(&self.url).chain(self.headers.iter().map(|(_, value)| value));
        let is_fixed = templates.clone().all(Template::is_static);
        let context = if is_fixed { serde_json::Value::Null } else { message.context_for(templates) };

        let key = way.key(sending.uplink, sending.extra);
        let mut request = self.assemble(body.bytes, &body.content_type, key, attempt, &context)?;
        let shown_url = message.hide(&self.hide(&request.uri().to_string()));
        // Whoever tests wants all of it; there is no room for it in the history.
        let (headers, body_shown) = match message.uplink.flags.simulated {
            true => (self.mark_simulated(&mut request, message), way.renderer.body_shown(message)?),
            false => (Vec::new(), body.shown),
        };
        let exchange = Exchange {
            device: message.shown_device(),
            target: format!("{} {shown_url}", self.method),
            headers,
            body: body_shown,
            notes: message.notes(body.warnings),
            ..Exchange::default()
        };
        Ok(Made { request, exchange })
    }

    /// The body of a batch, empty so far.
    pub(super) fn batch_body(&self) -> BatchBody {
        BatchBody::new(self.batch_format)
    }

    /// The request for a batch.
    pub(super) fn make_batch(
        &self,
        body: BatchBody,
        gateway: &str,
        attempt: Attempt,
    ) -> Result<Request<Vec<u8>>, Failure> {
        let context = serde_json::json!({ "gateway": { "name": gateway } });
        let (bytes, content_type, key) = body.finish();
        self.assemble(bytes, &content_type, key, attempt, &context)
    }

    fn assemble(
        &self,
        body: Vec<u8>,
        content_type: &str,
        key: String,
        attempt: Attempt,
        context: &serde_json::Value,
    ) -> Result<Request<Vec<u8>>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, value(content_type.to_owned(), "Content-Type")?);
        headers.insert("idempotency-key", value(key, "Idempotency-Key")?);
        headers.insert("x-attempt", HeaderValue::from(attempt.number));
        if let Some(hold_ms) = attempt.hold_ms {
            headers.insert("x-hold-ms", HeaderValue::from(hold_ms));
        }
        for (name, template) in &self.headers {
            let rendered = template.render(context).map_err(unrenderable)?;
            headers.insert(name.clone(), value(rendered, name.as_str())?);
        }
        let mut url = self.url.render(context).map_err(unrenderable)?;
        self.credentials.apply(&mut url, &mut headers)?;
        if url.len() > MAX_LINE_BYTES {
            return Err(too_long("the URL", url.len()));
        }
        let body = match self.compress {
            Compress::None => body,
            Compress::Gzip => compress::gzipped(body, &mut headers),
        };
        let request = Request::builder().method(self.method.clone()).uri(url).body(body);
        let mut request = request
            .map_err(|_| Failure::record(Layer::Render, "the URL that this uplink makes is not one"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Says in a header that it is a test, because a body template may not. Gives the headers that the user and we
    /// ourselves set, without secrets.
    pub(super) fn mark_simulated(
        &self,
        request: &mut Request<Vec<u8>>,
        message: &Message<'_>,
    ) -> Vec<String> {
        request.headers_mut().insert("x-simulated", HeaderValue::from_static("true"));
        let shown = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", message.hide(&self.hide(&String::from_utf8_lossy(value.as_bytes()))))
        };
        request.headers().iter().map(shown).collect()
    }

    /// Asks what the endpoint offers, with our credentials: at the URL itself, or at the root where the URL depends on the
    /// uplink.
    pub(super) fn probe(&self) -> Result<Request<Vec<u8>>, Failure> {
        let sample = self.url.sample().map_err(unrenderable)?;
        let mut url = if self.url.is_static() { sample } else { origin(&sample) };
        let mut headers = HeaderMap::new();
        self.credentials.apply(&mut url, &mut headers)?;
        let request = Request::builder().method(http::Method::OPTIONS).uri(url).body(Vec::new());
        let mut request =
            request.map_err(|_| Failure::link(Layer::Http, "the URL can't be asked without an uplink"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// What an answer means that refuses us: see [`Credentials::refused`].
    pub(super) fn refused(&self, failure: Failure) -> Failure {
        self.credentials.refused(failure)
    }

    /// `text` of an answer without our secrets in it.
    pub(super) fn hide(&self, text: &str) -> String {
        hidden(&self.credentials.hide(text), &self.hidden)
    }
}

/// Scheme, host and port.
fn origin(url: &str) -> String {
    let host_at = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host_at..).and_then(|rest| rest.find(['/', '?'])).map_or(url.len(), |at| host_at + at);
    format!("{}/", url.get(..end).unwrap_or(url))
}

fn method(method: Method) -> http::Method {
    match method {
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
    }
}

fn value(text: String, name: &str) -> Result<HeaderValue, Failure> {
    if text.len() > MAX_LINE_BYTES {
        return Err(too_long(&format!("header {name}"), text.len()));
    }
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        Failure::record(Layer::Render, format!("header {name} gets a character that it can't carry"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn too_long(what: &str, bytes: usize) -> Failure {
    Failure::record(
        Layer::Render,
        format!("{what} gets {bytes} bytes long; at most {MAX_LINE_BYTES} are sent"),
    )
}

fn unrenderable(error: RenderError) -> Failure {
    Failure::record(Layer::Render, error.to_string())
}

/// Why these can't be sent in batches: several uplinks are one request with one body of JSON.
fn no_batch(
    table: &str,
    http: &Http,
    url: &Template,
    headers: &[(HeaderName, Template)],
    ways: &[Way],
) -> Vec<Problem> {
    let of_an_uplink = |template: &Template| template.names().any(|name| name != "gateway.name");
    let hint = "a batch is one request for several uplinks; use {{gateway.name}} alone, or batch = 1";
    let mut problems = Vec::new();
    let mut refuse = |place, key: String, message: &str, hint: &str| {
        problems.push(Problem::error(place, key, message).hint(hint));
    };
    if of_an_uplink(url) {
        refuse(
            &http.url.place,
            format!("{table}.url"),
            "placeholders of an uplink don't go with batch",
            hint,
        );
    }
    for (name, template) in headers {
        let given = http.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name.as_str()));
        if let Some((given, _)) = given.filter(|_| of_an_uplink(template)) {
            let key = format!("{table}.headers.{}", **given);
            refuse(&given.place, key, "placeholders of an uplink don't go with batch", hint);
        }
    }
    if !ways.iter().all(|way| way.renderer.makes_json()) {
        let hint = "use content_type = \"json\", or batch = 1";
        refuse(&http.batch.place, format!("{table}.batch"), "only JSON can be sent in batches", hint);
    }
    problems
}

/// Checks the headers of the configuration; `taken` is the one that authentication sets.
fn headers(
    key: &str,
    given: &[(Spot<String>, Secret)],
    taken: Option<&HeaderName>,
) -> Result<Vec<(HeaderName, Template)>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut headers: Vec<(HeaderName, Template)> = Vec::new();
    for (name, value) in given {
        let key = format!("{key}.{}", **name);
        let problem = |message: &str| Problem::error(&name.place, key.as_str(), message);
        let header = match HeaderName::try_from(name.as_str()) {
            Err(_) => Err(problem("not a name that an HTTP header can have")),
            Ok(header) if FRAMING.contains(&header) => {
                Err(problem("this header is made by the agent itself"))
            }
            Ok(header) if taken == Some(&header) => {
                Err(problem("set here and by auth").hint("keep one of them"))
            }
            Ok(header) if headers.iter().any(|(other, _)| *other == header) => {
                Err(problem("set twice: the case of a header's name does not count"))
            }
            Ok(header) => Ok(header),
        };
        let template = match Template::parse(value.expose(), Purpose::Header) {
            Err(error) => Err(error.into_problem(&name.place, key.as_str())),
            Ok(template) => match template.sample() {
                Err(error) => Err(problem(&error.to_string())),
                Ok(sample) if sample.len() > MAX_LINE_BYTES => Err(problem("the value is too long")),
                Ok(_) => Ok(template),
            },
        };
        match (header, template) {
            (Ok(header), Ok(template)) => headers.push((header, template)),
            (header, template) => problems.extend(header.err().into_iter().chain(template.err())),
        }
    }
    if problems.is_empty() { Ok(headers) } else { Err(problems) }
}

/// Header values are secrets to the configuration; so are keys that somebody wrote into the query. An answer may repeat
/// them as they are or percent-encoded.
fn keys_of(target: &Target, headers: &[(Spot<String>, Secret)]) -> Vec<String> {
    let words = headers
        .iter()
        .flat_map(|(_, value)| value.expose().split_whitespace())
        .filter(|word| may_be_key(word));
    let mut keys: Vec<String> = words
        .flat_map(|word| [word.to_owned(), percent_encode(word)])
        .chain(target.query_values.iter().cloned())
        .collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
    keys.dedup();
    keys
}
