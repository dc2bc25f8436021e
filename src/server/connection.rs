//! One connection, from its first byte to its last.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::activity::{Activity, InFlight, Patience, Until};
use super::limits::{
    CONNECTION_WINDOW_BYTES, GOODBYE_TIME, HEAD_BYTES_MIN, LOCAL_RESETS_MAX, PENDING_RESETS_MAX, PING_INTERVAL, PING_TIMEOUT,
    SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES, STREAMS_MAX,
};
use super::stream::{Stream, linger};
use super::{BoxError, Connection, HttpService, ServeOptions};

/// Serves an accepted socket. Until its first byte it costs no more than this small future: the buffers of
/// TLS and HTTP are made only then, so that many silent connections are cheap.
pub(super) async fn serve_socket<S: HttpService>(
    socket: TcpStream,
    peer: SocketAddr,
    service: Arc<S>,
    options: Arc<ServeOptions>,
    stop: watch::Receiver<bool>,
) {
    let first_byte = async { socket.peek(&mut [0]).await.is_ok_and(|count| count > 0) };
    let begun = tokio::select! {
        biased;
        begun = timeout(options.head_timeout, first_byte) => begun,
        () = stopped(stop.clone()) => return,
    };
    if !begun.unwrap_or(false) {
        return;
    }
    Box::pin(serve_begun(socket, peer, service, options, stop)).await;
}

async fn serve_begun<S: HttpService>(
    socket: TcpStream,
    peer: SocketAddr,
    service: Arc<S>,
    options: Arc<ServeOptions>,
    stop: watch::Receiver<bool>,
) {
    let Some(tls) = options.tls.clone() else {
        return serve_stream(socket, Connection { peer, tls: false }, service, options, stop).await;
    };
    match timeout(options.head_timeout, TlsAcceptor::from(tls).accept(socket)).await {
        Ok(Ok(stream)) => Box::pin(serve_stream(stream, Connection { peer, tls: true }, service, options, stop)).await,
        Ok(Err(error)) => tracing::debug!(peer = %peer.ip(), %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(peer = %peer.ip(), "TLS handshake took too long"),
    }
}

fn builder(options: &ServeOptions) -> Builder<TokioExecutor> {
    let head_bytes_max = options.head_bytes_max.max(HEAD_BYTES_MIN);
    let mut builder = Builder::new(TokioExecutor::new());
    // The number of headers is left at hyper's default (HEADERS_MAX): setting it would move them to the heap.
    builder.http1().header_read_timeout(None).half_close(false).max_buf_size(head_bytes_max).timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Serves one connection over any stream whose first byte has arrived, until it ends or, once `stop` turns
/// true, until what was begun is finished. Simulations use it over pipes.
pub async fn serve_stream<I, S>(inner: I, connection: Connection, service: Arc<S>, options: Arc<ServeOptions>, stop: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService,
{
    let activity = Activity::begin(Instant::now());
    let (stream, leftover) = Stream::new(inner, activity.clone(), options.write_timeout);
    let patience = Patience { head: options.head_timeout, idle: options.idle_timeout };
    let requests = activity.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let in_flight = requests.request(request.version() == Version::HTTP_2);
        request.extensions_mut().insert(connection);
        let service = S::clone(&service);
        async move {
            let response = service.oneshot(request).await.map_err(|error| Unanswered(error.into()))?;
            Ok::<_, Unanswered>(response.map(|body| Tracked { body, _in_flight: in_flight }))
        }
    });
    let connection_of_hyper = builder(&options).serve_connection(TokioIo::new(stream), service).into_owned();
    let end = drive(Box::pin(connection_of_hyper), &activity, patience, stopped(stop)).await;
    if let Some(error) = &end.error {
        tracing::debug!(peer = %connection.peer.ip(), error = %Chain(&**error), "connection ended early");
    }
    let inner = leftover.lock().take();
    if let Some(inner) = inner.filter(|_| end.may_linger) {
        linger(inner).await;
    }
}

/// Resolves at the stop. A sender that is gone means the same.
fn stopped(mut stop: watch::Receiver<bool>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { drop(stop.wait_for(|stopping| *stopping).await) })
}

/// The service's error: there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct Unanswered(#[source] BoxError);

/// How a connection ended.
struct End {
    error: Option<BoxError>,
    /// Whether the client may still be sending and reading.
    may_linger: bool,
}

/// What the driver asks of hyper's connection, which has an unspeakable type.
trait Drive: Future<Output = Result<(), BoxError>> {
    fn finish(self: Pin<&mut Self>);
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
}

/// Polls the connection and, beside it, how long it may go on. The connection is dropped before this returns.
async fn drive(
    mut connection: Pin<Box<dyn Drive + Send>>,
    activity: &Activity,
    patience: Patience,
    mut stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
) -> End {
    let mut timer = pin!(sleep_until(Instant::now() + patience.head));
    let mut stopping = false;
    // When an idle client that was told to close must have done so.
    let mut goodbye: Option<Instant> = None;
    poll_fn(|context| {
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(context) {
                return Poll::Ready(End { error: result.err(), may_linger: !stopping });
            }
            if !stopping && stopped.as_mut().poll(context).is_ready() {
                stopping = true;
                connection.as_mut().finish();
                continue;
            }
            let until = activity.until(patience);
            if let Some(at) = goodbye.into_iter().chain(until.instant()).min().filter(|at| *at < timer.deadline()) {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            match until {
                Until::Head(at) if at <= Instant::now() => return Poll::Ready(End { error: None, may_linger: false }),
                Until::Idle(at) if at <= Instant::now() => {
                    if goodbye.is_some_and(|goodbye| goodbye <= Instant::now()) {
                        return Poll::Ready(End { error: None, may_linger: false });
                    }
                    if goodbye.is_none() {
                        goodbye = Some(Instant::now() + GOODBYE_TIME);
                        connection.as_mut().finish();
                    }
                    timer.as_mut().reset(Instant::now() + GOODBYE_TIME);
                }
                Until::Head(at) | Until::Idle(at) => {
                    goodbye = None;
                    timer.as_mut().reset(at);
                }
                Until::Busy => {
                    goodbye = None;
                    timer.as_mut().reset(Instant::now() + patience.idle);
                }
            }
        }
    })
    .await
}

/// An answer's body that keeps its request in flight until it is written or given up.
struct Tracked<B> {
    body: B,
    _in_flight: InFlight,
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An error with its sources, in one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut error = self.0;
        while let Some(source) = error.source() {
            write!(f, ": {source}")?;
            error = source;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::Response;
    use http_body_util::Empty;

    use super::*;

    /// Ten thousand silent connections must fit in tens of megabytes, sockets' and tasks' own share included.
    #[tokio::test]
    async fn a_silent_connection_costs_less_than_a_kilobyte() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (socket, peer) = accepted.unwrap();
        let service = tower::service_fn(|_request: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
        let (_stop, stopping) = watch::channel(false);
        let future = serve_socket(socket, peer, Arc::new(service), Arc::default(), stopping);
        assert!(size_of_val(&future) < 1024, "{} bytes", size_of_val(&future));
        drop(client);
    }
}
