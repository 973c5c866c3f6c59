//! A session with a vCenter or host.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::body::Body;
use crate::error::FaultKind;
use crate::reference::Moref;
use crate::server::{Broken, Exchange, Server};
use crate::soap::{Answer, answer};
use crate::xml::{Element, Problem};
use crate::{DataAccess, Endpoint, Error, Result};

/// How often a call that may be repeated is tried, and how long is waited in between.
const TRIES: u32 = 3;
const RETRY_DELAY: Duration = Duration::from_millis(400);
/// How long after a refused login the next one is made: vCenter's own policy locks an account at five
/// failures in three minutes.
const REFUSED_REST: Duration = Duration::from_secs(10 * 60);

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Such as `VMware vCenter Server 8.0.2 build-22385739`.
    pub full_name: String,
    /// Such as `8.0.2`.
    pub version: String,
    /// Build number.
    pub build: String,
    /// Newest API version that it speaks.
    pub api_version: String,
    /// Whether it is a vCenter; a host that stands alone otherwise.
    pub is_vcenter: bool,
    /// Names a vCenter for its life; a host has none.
    pub instance_uuid: Option<String>,
}

/// A session with a vCenter or host. Clones share it.
///
/// A session that expired is renewed once per call; a login that was refused is not repeated for ten
/// minutes, so that the account is not locked. A vCenter that starts refuses good passwords, too, so
/// that it must be tried again some time. Reads are repeated after transport errors; calls that change
/// something are not.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: Server,
    endpoint: Endpoint,
    action: String,
    content: Content,
    about: About,
    state: Mutex<State>,
    /// Whether the session is another's, so that it can be neither renewed nor ended here.
    is_borrowed: bool,
}

/// The server's roots that we call upon.
#[derive(Debug)]
pub(crate) struct Content {
    pub root_folder: Moref,
    pub property_collector: Moref,
    pub view_manager: Moref,
    pub search_index: Moref,
    pub session_manager: Moref,
    /// Not every server has the rest.
    pub authorization: Option<Moref>,
    pub guest_operations: Option<Moref>,
    pub custom_fields: Option<Moref>,
}

#[derive(Debug)]
enum State {
    Away,
    Live(Arc<Session>),
    Refused(Instant),
}

impl State {
    /// Whether a login would come too soon after one that was refused.
    fn is_barred(&self, now: Instant) -> bool {
        matches!(self, State::Refused(at) if now.saturating_duration_since(*at) < REFUSED_REST)
    }
}

/// One login.
#[derive(Debug)]
pub(crate) struct Session {
    pub cookie: SecretString,
}

/// Whether a call may be sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing.
    Safe,
    /// It changes something.
    Never,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub method: &'static str,
    pub this: &'a Moref,
    pub body: Body,
    pub repeat: Repeat,
}

impl Client {
    /// Negotiates the API version and logs in.
    pub async fn connect(endpoint: Endpoint) -> Result<Self> {
        let client = Self::open(endpoint, None).await?;
        client.session().await?;
        Ok(client)
    }

    /// Uses the session of a data plane, without its password: what a proxy asks of vSphere itself. When
    /// the session is over every call fails with [`Error::SessionOver`]; whoever opened it ends it.
    pub async fn borrow(access: &DataAccess) -> Result<Self> {
        let endpoint = Endpoint {
            address: access.address.clone(),
            username: String::new(),
            password: SecretString::default(),
            trust: access.trust.clone(),
        };
        let cookie = access.cookie.clone();
        Self::open(endpoint, Some(Session { cookie })).await
    }

    async fn open(endpoint: Endpoint, session: Option<Session>) -> Result<Self> {
        let server = Server::new(&endpoint.address, &endpoint.trust)?;
        let action = format!("urn:vim25/{}", server.negotiate().await?);
        let (content, about) = service_content(&server, &action).await?;
        let is_borrowed = session.is_some();
        let state = session.map_or(State::Away, |session| State::Live(Arc::new(session)));
        Ok(Self(Arc::new(Inner {
            server,
            endpoint,
            action,
            content,
            about,
            state: Mutex::new(state),
            is_borrowed,
        })))
    }

    /// What the server said of itself when it was connected to.
    pub fn about(&self) -> &About {
        &self.0.about
    }

    /// `host[:port]` of the server.
    pub fn address(&self) -> &str {
        self.0.server.address()
    }

    /// Keeps the session alive: call it at least every ten minutes. Renews it when it expired.
    pub async fn keep_alive(&self) -> Result<()> {
        let session = self.session().await?;
        match self.touch(&session).await {
            Err(error) if error.is(&FaultKind::NotAuthenticated) => {
                self.renew(&session).await.map(drop)
            }
            outcome => outcome,
        }
    }

    /// Ends the session. A later call would log in again.
    pub async fn logout(&self) -> Result<()> {
        let state = std::mem::replace(&mut *self.0.state.lock().await, State::Away);
        match state {
            State::Live(_) if self.0.is_borrowed => Ok(()),
            State::Live(session) => self.end(&session.cookie).await,
            State::Away | State::Refused(_) => Ok(()),
        }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.0.server
    }

    pub(crate) fn content(&self) -> &Content {
        &self.0.content
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Calls, renewing the session once if it expired: the server did not run the call then, so
    /// that any call may be sent again.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Vec<Element>> {
        let session = self.session().await?;
        match self.call_in(&session, &call).await {
            Err(error) if error.is(&FaultKind::NotAuthenticated) => {
                let session = self.renew(&session).await?;
                self.call_in(&session, &call).await
            }
            outcome => outcome,
        }
    }

    /// Calls and answers with the one value that was returned.
    pub(crate) async fn call_one(&self, call: Call<'_>) -> Result<Element> {
        let method = call.method;
        one(method, self.call(call).await?)
    }

    /// Calls in one session and never renews it, for sequences that die with their session.
    pub(crate) async fn call_in(&self, session: &Session, call: &Call<'_>) -> Result<Vec<Element>> {
        let Call {
            method,
            this,
            body,
            repeat,
        } = call;
        let mut tries = match repeat {
            Repeat::Safe => TRIES,
            Repeat::Never => 1,
        };
        loop {
            tries -= 1;
            let envelope = body.envelope(method, this);
            let broken = match self.0.post(Some(&session.cookie), envelope).await {
                Ok(exchange) => return returned(method, &exchange.text),
                Err(broken) => broken,
            };
            match broken {
                Broken::Lost(_) | Broken::NotSent(Error::Unreachable { .. }) if tries > 0 => {
                    tracing::debug!(method, ?broken, "repeating a call");
                    tokio::time::sleep(RETRY_DELAY * (TRIES - tries)).await;
                }
                Broken::Lost(source) if *repeat == Repeat::Never => {
                    return Err(Error::OutcomeUnknown { method, source });
                }
                broken => return Err(self.0.server.error(method, broken)),
            }
        }
    }

    /// The session, made if there is none.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        let mut state = self.0.state.lock().await;
        match &*state {
            State::Live(session) => Ok(Arc::clone(session)),
            refused if refused.is_barred(Instant::now()) => Err(self.refused()),
            State::Away | State::Refused(_) => self.enter(&mut state).await,
        }
    }

    /// A session that is not `old`. Calls that failed together share one login.
    pub(crate) async fn renew(&self, old: &Arc<Session>) -> Result<Arc<Session>> {
        let mut state = self.0.state.lock().await;
        match &*state {
            State::Live(session) if !Arc::ptr_eq(session, old) => Ok(Arc::clone(session)),
            refused if refused.is_barred(Instant::now()) => Err(self.refused()),
            State::Live(_) | State::Away | State::Refused(_) => self.enter(&mut state).await,
        }
    }

    async fn enter(&self, state: &mut State) -> Result<Arc<Session>> {
        match self.login().await {
            Ok(cookie) => {
                let session = Arc::new(Session { cookie });
                *state = State::Live(Arc::clone(&session));
                Ok(session)
            }
            Err(error) => {
                if matches!(error, Error::LoginRefused { .. }) {
                    *state = State::Refused(Instant::now());
                }
                Err(error)
            }
        }
    }

    /// Logs in and answers with the new session's cookie.
    pub(crate) async fn login(&self) -> Result<SecretString> {
        const METHOD: &str = "Login";
        if self.0.is_borrowed {
            return Err(Error::SessionOver);
        }
        let body = Body::new()
            .value("userName", &self.0.endpoint.username)
            .value("password", self.0.endpoint.password.expose_secret());
        let envelope = body.envelope(METHOD, &self.0.content.session_manager);
        // Sent without a cookie, so that the server must name the new session.
        let exchange = self.0.post(None, envelope).await;
        let exchange = exchange.map_err(|broken| self.0.server.error(METHOD, broken))?;
        returned(METHOD, &exchange.text).map_err(|error| match error {
            error if error.is(&FaultKind::InvalidLogin) => self.refused(),
            error => error,
        })?;
        exchange
            .cookie
            .ok_or_else(|| bad_answer(METHOD, Problem::new("no session cookie")))
    }

    /// Ends the session of a cookie. One that is over is no error.
    pub(crate) async fn end(&self, cookie: &SecretString) -> Result<()> {
        const METHOD: &str = "Logout";
        let envelope = Body::new().envelope(METHOD, &self.0.content.session_manager);
        let exchange = self.0.post(Some(cookie), envelope).await;
        let exchange = exchange.map_err(|broken| self.0.server.error(METHOD, broken))?;
        match returned(METHOD, &exchange.text) {
            Err(error) if error.is(&FaultKind::NotAuthenticated) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    fn refused(&self) -> Error {
        Error::LoginRefused {
            username: self.0.endpoint.username.clone(),
        }
    }
}

impl Inner {
    async fn post(
        &self,
        cookie: Option<&SecretString>,
        envelope: String,
    ) -> Result<Exchange, Broken> {
        self.server.post(&self.action, cookie, envelope).await
    }
}

async fn service_content(server: &Server, action: &str) -> Result<(Content, About)> {
    const METHOD: &str = "RetrieveServiceContent";
    let envelope = Body::new().envelope(METHOD, &Moref::new("ServiceInstance", "ServiceInstance"));
    let exchange = server.post(action, None, envelope).await;
    let exchange = exchange.map_err(|broken| server.error(METHOD, broken))?;
    let returned = one(METHOD, returned(METHOD, &exchange.text)?)?;
    let content = content(&returned).map_err(|problem| bad_answer(METHOD, problem))?;
    let about = about(&returned).map_err(|problem| bad_answer(METHOD, problem))?;
    Ok((content, about))
}

fn content(returned: &Element) -> Result<Content, Problem> {
    let optional = |name: &str| returned.find(name).map(Element::moref).transpose();
    Ok(Content {
        authorization: optional("authorizationManager")?,
        guest_operations: optional("guestOperationsManager")?,
        custom_fields: optional("customFieldsManager")?,
        root_folder: returned.need_moref("rootFolder")?,
        property_collector: returned.need_moref("propertyCollector")?,
        view_manager: returned.need_moref("viewManager")?,
        search_index: returned.need_moref("searchIndex")?,
        session_manager: returned.need_moref("sessionManager")?,
    })
}

fn about(returned: &Element) -> Result<About, Problem> {
    let about = returned.need("about")?;
    Ok(About {
        full_name: about.string("fullName")?,
        version: about.string("version")?,
        build: about.string("build")?,
        api_version: about.string("apiVersion")?,
        is_vcenter: about.string("apiType")? == "VirtualCenter",
        instance_uuid: about.optional("instanceUuid"),
    })
}

fn returned(method: &'static str, xml: &str) -> Result<Vec<Element>> {
    match answer(xml).map_err(|problem| bad_answer(method, problem))? {
        Answer::Returned(values) => Ok(values),
        Answer::Fault(fault) => Err(Error::Fault {
            method,
            fault: Box::new(fault),
        }),
    }
}

fn one(method: &'static str, values: Vec<Element>) -> Result<Element> {
    values
        .into_iter()
        .next()
        .ok_or_else(|| bad_answer(method, Problem::new("nothing returned")))
}

pub(crate) fn bad_answer(method: &'static str, Problem(problem): Problem) -> Error {
    Error::BadAnswer { method, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_is_made_again_only_after_a_rest() {
        let at = Instant::now();
        let refused = State::Refused(at);
        assert!(refused.is_barred(at));
        assert!(refused.is_barred(at + REFUSED_REST - Duration::from_secs(1)));
        assert!(!refused.is_barred(at + REFUSED_REST));
        assert!(!State::Away.is_barred(at));
    }
}
