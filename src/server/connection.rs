//! One connection, from its first byte to its last.

use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::activity::{Activity, InFlight, Patience, Until};
use super::drive::{End, Http1, Stopping, drive};
use super::limits::{
    CONNECTION_WINDOW_BYTES, GOODBYE_TIME, HEAD_BYTES_MIN, LOCAL_RESETS_MAX, PENDING_RESETS_MAX, PING_INTERVAL, PING_TIMEOUT, REST_AFTER,
    REST_READ_BYTES, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES, STREAMS_MAX,
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

fn http1_builder(options: &ServeOptions) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The number of headers is left at hyper's default (HEADERS_MAX): setting it would move them to the heap.
    builder.header_read_timeout(None).half_close(false).max_buf_size(options.head_bytes_max.max(HEAD_BYTES_MIN)).timer(TokioTimer::new());
    builder
}

/// For a connection whose first bytes may be those of HTTP/2.
fn builder(options: &ServeOptions) -> Builder<TokioExecutor> {
    let head_bytes_max = options.head_bytes_max.max(HEAD_BYTES_MIN);
    let mut builder = Builder::new(TokioExecutor::new());
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

/// Whether a connection that begins with these bytes may be one of HTTP/2.
fn may_be_http2(first: &[u8]) -> bool {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    first.iter().zip(PREFACE).all(|(byte, expected)| byte == expected)
}

/// Serves one connection over any stream whose first byte has arrived, until it ends or, once `stop` turns
/// true, until what was begun is finished. Simulations use it over pipes.
///
/// Between two requests an HTTP/1 connection rests: what hyper holds for it is dropped and made anew for the next request, so
/// that many connections that senders keep open are cheap.
pub async fn serve_stream<I, S>(
    mut inner: I,
    connection: Connection,
    service: Arc<S>,
    options: Arc<ServeOptions>,
    stop: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService,
{
    let activity = Activity::begin(Instant::now());
    let patience = Patience { head: options.head_timeout, idle: options.idle_timeout, rest: None };
    let mut is_http1 = false;
    let mut first = Bytes::new();
    loop {
        if first.is_empty() {
            first = match rest(&mut inner, activity.until(patience), stopped(stop.clone())).await {
                Rested::Bytes(bytes) => bytes,
                Rested::Idle => return linger(inner).await,
                Rested::Gone => {
                    // TLS says goodbye; whether it gets through is nobody's concern any more.
                    return drop(timeout(GOODBYE_TIME, inner.shutdown()).await);
                }
            };
        }
        activity.bytes_read();
        is_http1 = is_http1 || !may_be_http2(&first);
        let (stream, leftover) = Stream::new(inner, std::mem::take(&mut first), activity.clone(), options.write_timeout);
        let service = requests(service.clone(), activity.clone(), connection);
        let end = if is_http1 {
            let served = http1_builder(&options).serve_connection(TokioIo::new(stream), service);
            let served = Box::pin(Http1::new(served, activity.clone()));
            drive(served, &activity, Patience { rest: Some(REST_AFTER), ..patience }, Stopping::new(stop.clone())).await
        } else {
            let served = builder(&options).serve_connection(TokioIo::new(stream), service).into_owned();
            drive(Box::pin(served), &activity, patience, Stopping::new(stop.clone())).await
        };
        let left = leftover.lock().take();
        match (end, left) {
            (End::Rests(unused), Some(left)) => {
                inner = left;
                // Copied: even none of them would keep hyper's buffer. Empty lines between two requests are no head.
                let begins = unused.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(unused.len());
                first = Bytes::copy_from_slice(&unused[begins..]);
            }
            (End::Closed { error, may_linger }, left) => {
                if let Some(error) = error {
                    tracing::debug!(peer = %connection.peer.ip(), error = %Chain(&*error), "connection ended early");
                }
                if let Some(left) = left.filter(|_| may_linger) {
                    linger(left).await;
                }
                return;
            }
            (End::Rests(_), None) => return,
        }
    }
}

/// The service as hyper wants it, noting each request.
fn requests<S: HttpService>(
    service: Arc<S>,
    activity: Activity,
    connection: Connection,
) -> impl hyper::service::Service<Request<Incoming>, Response = http::Response<Tracked<S::Body>>, Error = Unanswered, Future: Send + 'static>
+ Send
+ 'static {
    service_fn(move |mut request: Request<Incoming>| {
        let in_flight = activity.request(request.version() == Version::HTTP_2);
        request.extensions_mut().insert(connection);
        let service = S::clone(&service);
        async move {
            let response = service.oneshot(request).await.map_err(|error| Unanswered(error.into()))?;
            Ok::<_, Unanswered>(response.map(|body| Tracked { body, _in_flight: in_flight }))
        }
    })
}

/// How a rest ended.
enum Rested {
    /// Bytes have arrived.
    Bytes(Bytes),
    /// It has lasted too long.
    Idle,
    /// The client is gone, or has to go at once.
    Gone,
}

/// Waits for a connection's next bytes with as little in memory as can be.
async fn rest<I: AsyncRead + Unpin>(inner: &mut I, until: Until, mut stopped: Pin<Box<dyn Future<Output = ()> + Send>>) -> Rested {
    let patient = async {
        match until.instant() {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    let bytes = poll_fn(|context| {
        // On the stack, and copied: a buffer of its own would be what is to be saved.
        let mut scratch = [MaybeUninit::uninit(); REST_READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut scratch);
        Pin::new(&mut *inner).poll_read(context, &mut buffer).map_ok(|()| Bytes::copy_from_slice(buffer.filled()))
    });
    tokio::select! {
        biased;
        bytes = bytes => match bytes {
            Ok(bytes) if !bytes.is_empty() => Rested::Bytes(bytes),
            Ok(_) | Err(_) => Rested::Gone,
        },
        () = &mut stopped => Rested::Gone,
        () = patient => if matches!(until, Until::Idle(_)) { Rested::Idle } else { Rested::Gone },
    }
}

/// Resolves at the stop. A sender that is gone means the same.
pub(super) fn stopped(mut stop: watch::Receiver<bool>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    // Out of the task's budget it would be pending without waiting for anything.
    Box::pin(tokio::task::unconstrained(async move { drop(stop.wait_for(|stopping| *stopping).await) }))
}

/// The service's error: there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
pub(super) struct Unanswered(#[source] BoxError);

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

    use http::Response;
    use http_body_util::{Empty, Full};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

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
    /// A connection over a pipe of so many bytes, its client's end, and who counts what is held for it.
    struct Piped {
        client: DuplexStream,
        service: Arc<AnswerOk>,
        stop: watch::Sender<bool>,
        served: JoinHandle<()>,
    }

    #[derive(Clone)]
    struct AnswerOk;

    impl tower::Service<Request<Incoming>> for AnswerOk {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _request: Request<Incoming>) -> Self::Future {
            std::future::ready(Ok(Response::new(Full::from("well"))))
        }
    }

    impl Piped {
        fn new(bytes: usize) -> Self {
            let (client, theirs) = tokio::io::duplex(bytes);
            let (stop, stopping) = watch::channel(false);
            let service = Arc::new(AnswerOk);
            let connection = Connection { peer: ([127, 0, 0, 1], 1).into(), tls: false };
            let served = tokio::spawn(serve_stream(theirs, connection, service.clone(), Arc::default(), stopping));
            Self { client, service, stop, served }
        }

        /// Whether nothing of hyper's is held: a service is part of that.
        fn rests(&self) -> bool {
            Arc::strong_count(&self.service) == 2
        }

        async fn send(&mut self, bytes: &str) {
            self.client.write_all(bytes.as_bytes()).await.unwrap();
        }

        async fn answered(&mut self) {
            let mut answer = Vec::new();
            while !answer.ends_with(b"well") {
                assert!(self.client.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
    }

    const ASKED: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_gives_back_what_serving_takes_and_serves_again() {
        let mut piped = Piped::new(64 * 1024);
        for _ in 0..3 {
            piped.send(ASKED).await;
            piped.answered().await;
            assert!(!piped.rests());
            sleep(REST_AFTER * 2).await;
            assert!(piped.rests());
        }
        sleep(ServeOptions::default().idle_timeout).await;
        assert_eq!(piped.client.read(&mut [0]).await.unwrap(), 0, "a rest is no longer than any idleness");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_behind_a_request_is_not_lost_in_a_rest_and_timed_as_one() {
        let (half, other) = ASKED.split_at(20);
        let mut piped = Piped::new(64 * 1024);
        piped.send(&format!("{ASKED}{half}")).await;
        piped.answered().await;
        sleep(REST_AFTER * 2).await;
        piped.send(other).await;
        piped.answered().await;

        piped.send(&format!("{ASKED}{half}")).await;
        piped.answered().await;
        sleep(ServeOptions::default().head_timeout + REST_AFTER * 2).await;
        assert_eq!(piped.client.read(&mut [0]).await.unwrap(), 0, "a head that does not end");
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_line_behind_a_request_is_not_the_beginning_of_a_head() {
        let mut piped = Piped::new(64 * 1024);
        piped.send(&format!("{ASKED}\r\n")).await;
        piped.answered().await;
        sleep(ServeOptions::default().head_timeout * 2).await;
        assert!(piped.rests());
        piped.send(ASKED).await;
        piped.answered().await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_yet_taken_is_not_lost_in_a_rest() {
        let mut piped = Piped::new(48);
        piped.send(ASKED).await;
        sleep(REST_AFTER * 4).await;
        assert!(!piped.rests());
        piped.answered().await;
        sleep(REST_AFTER * 2).await;
        assert!(piped.rests());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_at_rest_ends_at_the_stop() {
        let mut piped = Piped::new(64 * 1024);
        piped.send(ASKED).await;
        piped.answered().await;
        sleep(REST_AFTER * 2).await;
        piped.stop.send_replace(true);
        piped.served.await.unwrap();
    }
}
