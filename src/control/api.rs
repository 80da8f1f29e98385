//! What can be asked of a running agent, and the answers. A new verb is an arm of [`Api::answer`].
//!
//! | | |
//! |---|---|
//! | `GET /status` | see [`status`](super::status) |
//! | `GET /history?integration=&device=&since=&failed` | the last attempts |
//! | `GET /dead?integration=` | the oldest [`DEAD_AT_MOST`] dead letters |
//! | `GET /losses` | which uplinks were given up, as ranges |
//! | `GET /devices` | who is heard, and who is not |
//! | `GET /watch` | each frame as it is heard, one line each |
//! | `GET /metrics`, `GET /healthz` | for monitoring |
//! | `POST /pause`, `/resume`, `/purge` `?integration=` | |
//! | `POST /replay?integration=` `&dead` or `&since=` (`&all`) | dead letters, or what is kept, go out once more |
//! | `POST /test?integration=&device=&payload=&port=` | one attempt with a made-up uplink: see [`test`](mod@super::test) |
//! | `POST /kick` | the link is up: try now |
//! | `POST /reload`, `/apply?confirm=`, `/confirm` | see [`orders`](super::orders) |
//!
//! An integration is named as in the config, or with its type before it (`http:factory-api`) where one that was taken out
//! of the config had the same name. `since` is in seconds. What is unknown is answered with 404, what can't be done now
//! with 409, each with a sentence for people.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::printable::printable;
use crate::sightings::{Row, Who};
use crate::spool::{AccountId, AccountView, CommandError, View};

use super::answer::Answer;
use super::names::{self, hint};
use super::orders::{Asked, CONFIRM_USUALLY, CONFIRM_WITHIN, Order};
use super::request::Request;
use super::status::{Delivering, IntegrationStatus, StatusSource};
use super::watch::{self, Watching};
use super::{history, metrics, test};

/// Watchers at a time: fewer than connections, so that a command always finds one.
const WATCHERS: usize = 4;

/// Dead letters in one answer.
const DEAD_AT_MOST: usize = 100;

/// How long a job of the spool is waited for; it goes on by itself.
const JOB_TIME: Duration = Duration::from_secs(3);

/// See the [module](self). Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Api {
    status: Arc<StatusSource>,
    orders: mpsc::Sender<Asked>,
    watchers: Arc<Semaphore>,
}

/// An integration that somebody named: of the config, or removed and still in the spool.
struct Named<'a> {
    name: String,
    configured: Option<&'a IntegrationStatus>,
    account: Option<AccountView>,
}

impl Named<'_> {
    /// Its side of the spool.
    fn account(&self) -> Result<AccountId, Answer> {
        let nothing = || Answer::conflict(&format!("nothing was ever queued for {}", printable(&self.name)));
        self.account.as_ref().map(|account| account.id).ok_or_else(nothing)
    }
}

impl Api {
    /// Over what the status is made of; `orders` that change the whole agent are passed on.
    pub fn new(status: Arc<StatusSource>, orders: mpsc::Sender<Asked>) -> Api {
        Api { status, orders, watchers: Arc::new(Semaphore::new(WATCHERS)) }
    }

    /// Answers a request to the control socket.
    pub async fn answer(&self, request: &Request) -> Answer {
        let answered = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/status") => Ok(Answer::json(&self.status.snapshot())),
            ("GET", "/history") => self.history(request),
            ("GET", "/dead") => self.dead(request),
            ("GET", "/losses") => self.losses(),
            ("GET", "/devices") => Ok(Answer::json(&self.devices())),
            ("GET", "/watch") => self.watch(),
            ("GET", "/metrics" | "/healthz") => return self.answer_monitoring(request),
            ("POST", "/pause") => self.pause(request, true).await,
            ("POST", "/resume") => self.pause(request, false).await,
            ("POST", "/kick") => self.kick(),
            ("POST", "/purge") => self.purge(request).await,
            ("POST", "/replay") => self.replay(request).await,
            ("POST", "/test") => self.test(request).await,
            ("POST", "/reload") => self.order(Order::Reload).await,
            ("POST", "/apply") => self.apply(request).await,
            ("POST", "/confirm") => self.order(Order::Confirm).await,
            (method, path) => {
                let what = printable(&format!("{method} {path}"));
                Err(Answer::unknown(&format!("this agent ({}) has no {what}", env!("CARGO_PKG_VERSION"))))
            }
        };
        answered.unwrap_or_else(|refused| refused)
    }

    /// Answers what monitoring asks, on the control socket or by TCP; nothing else.
    pub fn answer_monitoring(&self, request: &Request) -> Answer {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/metrics") => Answer::text(metrics::CONTENT_TYPE, metrics::render(&self.status)),
            ("GET", "/healthz") => match self.status.trouble() {
                None => Answer::text("text/plain", "ok\n".into()),
                Some(trouble) => Answer::unavailable(&trouble),
            },
            _ => Answer::unknown("here are /metrics and /healthz"),
        }
    }

    async fn apply(&self, request: &Request) -> Result<Answer, Answer> {
        let confirm_within = seconds(request, "confirm")?.unwrap_or(CONFIRM_USUALLY);
        if !CONFIRM_WITHIN.contains(&confirm_within) {
            return Err(Answer::bad("confirm takes 10 seconds to a day"));
        }
        self.order(Order::Apply { confirm_within }).await
    }

    fn delivering(&self) -> Result<Arc<Delivering>, Answer> {
        let opening = || Answer::unavailable("the spool is not open yet; `packhorse status` says why");
        self.status.delivering().ok_or_else(opening)
    }

    fn history(&self, request: &Request) -> Result<Answer, Answer> {
        let delivering = self.delivering()?;
        let wanted = request.get("integration").map(|name| find(&delivering, name)).transpose()?;
        let wanted = wanted.map(|named| named.name);
        let device = request.get("device").map(|device| {
            names::of_device(delivering.interpreter.now().devices(), device)
                .map_err(|why| Answer::unknown(&why))
        });
        let filter = history::Filter {
            device: device.transpose()?.unwrap_or_default(),
            since_us: seconds(request, "since")?.map(|since| self.status.clock.wall_us() - micros(since)),
            failed: request.has("failed"),
        };
        let entries: Vec<Value> = delivering
            .integrations
            .iter()
            .filter(|integration| wanted.as_ref().is_none_or(|name| integration.name == *name))
            .flat_map(|integration| filter.entries(integration))
            .collect();
        Ok(Answer::json(&json!({ "history": history::by_time(entries) })))
    }

    fn dead(&self, request: &Request) -> Result<Answer, Answer> {
        let delivering = self.delivering()?;
        let named = named(&delivering, request)?;
        let total = named.account.as_ref().map_or(0, |account| account.dead_letters);
        let letters = match &named.account {
            None => Vec::new(),
            // Short: a hundred rows.
            Some(account) => delivering
                .operator
                .dead_letters(account.id, 0, DEAD_AT_MOST)
                .map_err(|error| Answer::unavailable(&error.to_string()))?,
        };
        let letters: Vec<Value> =
            letters.iter().map(|letter| history::dead_letter(&named.name, letter, &delivering)).collect();
        Ok(Answer::json(&json!({ "total": total, "dead_letters": letters })))
    }

    fn losses(&self) -> Result<Answer, Answer> {
        // Short: a thousand rows at most.
        let losses = self.delivering()?.operator.losses();
        let losses = losses.map_err(|error| Answer::unavailable(&error.to_string()))?;
        let losses: Vec<Value> = losses.iter().map(history::losses).collect();
        Ok(Answer::json(&json!({ "losses": losses })))
    }

    /// Configured devices that were not heard stand at the end.
    fn devices(&self) -> Value {
        let rows = self.status.sightings.rows();
        let clock = &*self.status.clock;
        let mut devices: Vec<Value> = rows.iter().map(|row| Value::Object(watch::row(row, clock))).collect();
        let snapshot = self.status.delivering().map(|delivering| delivering.interpreter.now());
        let configured = snapshot.iter().flat_map(|snapshot| snapshot.devices().iter());
        for device in configured {
            let who = Who::Device(device.name.clone());
            if !rows.iter().any(|row| row.who == who) {
                let row = Row { dev_eui: device.dev_eui, dev_addr: device.dev_addr, ..Row::unheard(who) };
                devices.push(Value::Object(watch::row(&row, clock)));
            }
        }
        json!({ "devices": devices })
    }

    fn watch(&self) -> Result<Answer, Answer> {
        let Ok(place) = Arc::clone(&self.watchers).try_acquire_owned() else {
            return Err(Answer::unavailable(&format!("{WATCHERS} watch already; end one of them")));
        };
        Ok(Answer::Lines(Box::new(Watching {
            sightings: self.status.sightings.watch(),
            status: Arc::clone(&self.status),
            _place: place,
        })))
    }

    async fn pause(&self, request: &Request, paused: bool) -> Result<Answer, Answer> {
        let delivering = self.delivering()?;
        let named = named(&delivering, request)?;
        let account = named.account()?;
        delivering.operator.set_paused(account, paused).await.map_err(refused)?;
        let backlog = backlog_of(&delivering.operator.view(), account);
        Ok(Answer::json(&json!({ "integration": named.name, "paused": paused, "backlog": backlog })))
    }

    fn kick(&self) -> Result<Answer, Answer> {
        self.delivering()?.link_up.signal();
        log::info!("kicked: every integration that waits tries now");
        Ok(Answer::json(&json!({ "kicked": true })))
    }

    async fn purge(&self, request: &Request) -> Result<Answer, Answer> {
        let delivering = self.delivering()?;
        let named = named(&delivering, request)?;
        let (account, forget) = (named.account()?, named.configured.is_none());
        log::warn!("{}: the operator purges its backlog and dead letters", printable(&named.name));
        let purging = delivering.operator.purge(account, forget);
        let n = within_job_time(purging).await?;
        Ok(Answer::json(&json!({ "integration": named.name, "purged": n, "under_way": n.is_none() })))
    }

    async fn replay(&self, request: &Request) -> Result<Answer, Answer> {
        let delivering = self.delivering()?;
        let named = named(&delivering, request)?;
        let account = named.account()?;
        if named.configured.is_none_or(|it| !it.enabled) {
            let name = printable(&named.name);
            return Err(Answer::conflict(&format!("{name} is not active: it would send nothing")));
        }
        if let Some(since) = seconds(request, "since")? {
            let replay = delivering.operator.replay_since(account, since, request.has("all"));
            let report = replay.await.map_err(refused)?;
            return Ok(Answer::json(&history::replay(&named.name, &report)));
        }
        if !request.has("dead") {
            return Err(Answer::bad("say what to replay: dead, or since=SECONDS"));
        }
        let n = within_job_time(delivering.operator.replay_dead(account)).await?;
        // Less than all: the rest has no room in the spool, or is refused again meanwhile.
        let view = delivering.operator.view();
        let left = view.account(account).map_or(0, |it| it.dead_letters);
        let answer =
            json!({ "integration": named.name, "replayed": n, "left": left, "under_way": n.is_none() });
        Ok(Answer::json(&answer))
    }
}

impl Api {
    async fn test(&self, request: &Request) -> Result<Answer, Answer> {
        let delivering = self.delivering()?;
        let named = named(&delivering, request)?;
        let live = named.configured.and_then(|it| Some((it, it.tester.as_ref()?)));
        let Some((integration, tester)) = live else {
            return Err(Answer::conflict(&format!("{} is not active", printable(&named.name))));
        };
        let wanted = test::Wanted::of(request).map_err(|why| Answer::bad(&why))?;
        let snapshot = delivering.interpreter.now();
        let uplink =
            wanted.uplink(snapshot.devices(), &*self.status.clock).map_err(|why| Answer::unknown(&why))?;
        let via = integration.lane.borrow().via.clone();
        let result = test::run(&named.name, tester, uplink, via.as_deref()).await;
        Ok(Answer::json(&result))
    }

    async fn order(&self, order: Order) -> Result<Answer, Answer> {
        let stopping = || Answer::unavailable("the agent is stopping");
        let (reply, answer) = oneshot::channel();
        self.orders.send(Asked { order, reply }).await.map_err(|_| stopping())?;
        match answer.await.map_err(|_| stopping())? {
            Ok(text) => Ok(Answer::json(&json!({ "changed": text }))),
            Err(why) => Err(Answer::conflict(&why)),
        }
    }
}

/// The integration that the request names.
fn named<'a>(delivering: &'a Delivering, request: &Request) -> Result<Named<'a>, Answer> {
    let missing = || Answer::bad("say which: integration=NAME");
    find(delivering, request.get("integration").filter(|name| !name.is_empty()).ok_or_else(missing)?)
}

/// Those of the config come first: a removed one of the same name goes by its type.
fn find<'a>(delivering: &'a Delivering, asked: &str) -> Result<Named<'a>, Answer> {
    let view = delivering.operator.view();
    let is_it = |kind: &str, name: &str| {
        name == asked || asked.split_once(':').is_some_and(|(its, rest)| its == kind && rest == name)
    };
    if let Some(it) = delivering.integrations.iter().find(|it| is_it(it.kind, &it.name)) {
        let account = view.account_of(it.kind, &it.name).cloned();
        return Ok(Named { name: it.name.clone(), configured: Some(it), account });
    }
    if let Some(account) = view.accounts.iter().find(|account| is_it(&account.kind, &account.name)) {
        let name = account.name.to_string();
        return Ok(Named { name, configured: None, account: Some(account.clone()) });
    }
    let names = delivering.integrations.iter().map(|it| it.name.as_str());
    Err(Answer::unknown(&format!("there is no integration {:?}{}", printable(asked), hint(asked, names))))
}

fn backlog_of(view: &View, account: AccountId) -> u64 {
    view.account(account).map_or(0, |it| it.backlog)
}

/// Waits for a job of the spool, but not longer than a person likes to; `None`: it goes on by itself.
async fn within_job_time(
    job: impl Future<Output = Result<u64, CommandError>>,
) -> Result<Option<u64>, Answer> {
    match tokio::time::timeout(JOB_TIME, job).await {
        Ok(Ok(n)) => Ok(Some(n)),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Ok(None),
    }
}

fn refused(error: CommandError) -> Answer {
    Answer::unavailable(&error.to_string())
}

/// A number of seconds in the query.
fn seconds(request: &Request, key: &str) -> Result<Option<Duration>, Answer> {
    let Some(text) = request.get(key) else { return Ok(None) };
    let bad = |_| Answer::bad(&format!("{key} is a number of seconds"));
    text.parse().map(|seconds| Some(Duration::from_secs(seconds))).map_err(bad)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// One more key of an object.
pub(super) fn put(entry: &mut Map<String, Value>, key: &str, value: Value) {
    entry.insert(key.to_owned(), value);
}
