//! Polls hyper's connection and, beside it, how long it may go on.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::BoxError;
use super::activity::{Activity, Patience, Until};
use super::connection::{Unanswered, stopped};
use super::limits::GOODBYE_TIME;

/// How a connection ended.
pub(super) enum End {
    Closed {
        error: Option<BoxError>,
        /// Whether the client may still be sending and reading.
        may_linger: bool,
    },
    /// It goes on, and what follows is not yet there, but for these bytes.
    Rests(Bytes),
}

/// What the driver asks of hyper's connection, which has an unspeakable type.
pub(super) trait Drive: Future<Output = Result<(), BoxError>> {
    /// Ends when what was begun is finished.
    fn finish(self: Pin<&mut Self>);

    /// Asked when nothing has happened for a while.
    fn rest(self: Pin<&mut Self>) -> Rest;
}

/// Whether a connection can do without hyper.
pub(super) enum Rest {
    /// It is taken apart; these bytes were read and not used.
    Taken(Bytes),
    /// Not now: the client has not yet taken its answer.
    Later,
    /// Never.
    Never,
}

impl<I, S, B> Drive for hyper_util::server::conn::auto::Connection<'_, I, S, TokioExecutor>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = http::Response<B>, Error = Unanswered>,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }

    fn rest(self: Pin<&mut Self>) -> Rest {
        Rest::Never
    }
}

/// An HTTP/1 connection of hyper's that can be taken apart.
pub(super) struct Http1<C> {
    /// `None` once it has been.
    served: Option<C>,
    activity: Activity,
}

impl<C> Http1<C> {
    pub(super) fn new(served: C, activity: Activity) -> Self {
        Self { served: Some(served), activity }
    }
}

impl<I, S, B> Future for Http1<http1::Connection<I, S>>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = http::Response<B>, Error = Unanswered>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.served {
            Some(served) => Pin::new(served).poll(context).map_err(BoxError::from),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<I, S, B> Drive for Http1<http1::Connection<I, S>>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = http::Response<B>, Error = Unanswered>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    fn finish(mut self: Pin<&mut Self>) {
        if let Some(served) = &mut self.served {
            Pin::new(served).graceful_shutdown();
        }
    }

    fn rest(mut self: Pin<&mut Self>) -> Rest {
        if self.activity.is_unsent() {
            // What hyper has not handed to the socket would be lost.
            return Rest::Later;
        }
        self.served.take().map_or(Rest::Never, |served| Rest::Taken(served.into_parts().read_buf))
    }
}

/// The stop, asked for at every poll of a connection, which is several times a request.
pub(super) struct Stopping {
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    stop: watch::Receiver<bool>,
    /// Who is woken.
    waker: Option<Waker>,
}

impl Stopping {
    pub(super) fn new(stop: watch::Receiver<bool>) -> Self {
        Self { stopped: stopped(stop.clone()), stop, waker: None }
    }

    fn is_there(&mut self, context: &mut Context<'_>) -> bool {
        let is_waited_for = self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        // A look at a number, where the whole future would take locks and counts.
        if is_waited_for && matches!(self.stop.has_changed(), Ok(false)) {
            return false;
        }
        self.waker = Some(context.waker().clone());
        self.stopped.as_mut().poll(context).is_ready()
    }
}

/// Polls the connection and, beside it, how long it may go on. The connection is dropped before this returns.
pub(super) async fn drive(mut connection: Pin<Box<dyn Drive + Send>>, activity: &Activity, patience: Patience, mut stop: Stopping) -> End {
    let mut timer = pin!(sleep_until(Instant::now() + patience.head.min(patience.quiet())));
    let mut stopping = false;
    // Whether hyper was polled since the time to rest has come. It may have had something to do that it was woken for: to close,
    // say, because of a body that nobody reads.
    let mut is_asked = false;
    // Since when the client has not taken its answer, and when to ask again.
    let mut unsent: Option<(Instant, Instant)> = None;
    // When an idle client that was told to close must have done so.
    let mut goodbye: Option<Instant> = None;
    poll_fn(|context| {
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(context) {
                return Poll::Ready(End::Closed { error: result.err(), may_linger: !stopping });
            }
            if !stopping && stop.is_there(context) {
                stopping = true;
                connection.as_mut().finish();
                continue;
            }
            let until = match (activity.until(patience), unsent) {
                (Until::Idle(at), Some((_, again))) => Until::Idle(at.max(again)),
                (until, _) => until,
            };
            if let Some(at) = goodbye.into_iter().chain(until.instant()).min().filter(|at| *at < timer.deadline()) {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            match until {
                Until::Head(at) if at <= Instant::now() => return Poll::Ready(End::Closed { error: None, may_linger: false }),
                Until::Idle(at) if at <= Instant::now() => {
                    if !is_asked {
                        is_asked = true;
                        continue;
                    }
                    is_asked = false;
                    match connection.as_mut().rest() {
                        Rest::Taken(unused) => return Poll::Ready(End::Rests(unused)),
                        Rest::Later => {
                            let now = Instant::now();
                            let (since, _) = unsent.unwrap_or((now, now));
                            if since + patience.idle <= now {
                                return Poll::Ready(End::Closed { error: None, may_linger: false });
                            }
                            unsent = Some((since, now + patience.quiet()));
                            continue;
                        }
                        Rest::Never => {}
                    }
                    if goodbye.is_some_and(|goodbye| goodbye <= Instant::now()) {
                        return Poll::Ready(End::Closed { error: None, may_linger: false });
                    }
                    if goodbye.is_none() {
                        goodbye = Some(Instant::now() + GOODBYE_TIME);
                        connection.as_mut().finish();
                    }
                    timer.as_mut().reset(Instant::now() + GOODBYE_TIME);
                }
                Until::Head(at) | Until::Idle(at) => {
                    (goodbye, is_asked) = (None, false);
                    timer.as_mut().reset(at);
                }
                Until::Busy => {
                    (goodbye, is_asked, unsent) = (None, false, None);
                    timer.as_mut().reset(Instant::now() + patience.idle);
                }
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Answers at its first poll, and at the third sees that it has to close.
    struct ClosesLate {
        polls: u32,
        activity: Activity,
    }

    impl Future for ClosesLate {
        type Output = Result<(), BoxError>;

        fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
            self.polls += 1;
            if self.polls == 1 {
                drop(self.activity.request(false));
            }
            if self.polls < 3 { Poll::Pending } else { Poll::Ready(Ok(())) }
        }
    }

    impl Drive for ClosesLate {
        fn finish(self: Pin<&mut Self>) {}

        fn rest(self: Pin<&mut Self>) -> Rest {
            Rest::Taken(Bytes::new())
        }
    }

    /// Else what is left of a body that nobody reads would be taken for a request.
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_polled_once_more_before_it_rests() {
        let activity = Activity::begin(Instant::now());
        let patience = Patience { head: Duration::from_secs(10), idle: Duration::from_secs(75), rest: Some(Duration::from_millis(100)) };
        let connection = Box::pin(ClosesLate { polls: 0, activity: activity.clone() });
        let (_stop, stopping) = watch::channel(false);
        let end = drive(connection, &activity, patience, Stopping::new(stopping)).await;
        assert!(matches!(end, End::Closed { error: None, may_linger: true }));
    }
}
