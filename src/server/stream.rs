//! The bytes of one connection: a time-out around writes, notes of activity, and the way back to the raw
//! stream once hyper has let go of it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use super::activity::Activity;
use super::limits::{LINGER_BYTES_MAX, LINGER_TIME};

/// Where a [`Stream`] leaves its inside when it is dropped while the client may still be sending.
pub(super) type Leftover<I> = Arc<Mutex<Option<I>>>;

/// A stream that notes what happens and doesn't wait for ever for a client that doesn't read.
pub(super) struct Stream<I> {
    /// `None` only while it is being dropped.
    inner: Option<I>,
    /// Read from it already, by whoever waited for it.
    given: Bytes,
    activity: Activity,
    write_timeout: Duration,
    /// Runs while a write is stuck.
    stuck: Option<Pin<Box<Sleep>>>,
    ended: bool,
    leftover: Leftover<I>,
}

impl<I> Stream<I> {
    /// Wraps a stream that begins with the bytes given; the other value is where it goes in the end.
    pub(super) fn new(inner: I, given: Bytes, activity: Activity, write_timeout: Duration) -> (Self, Leftover<I>) {
        let leftover = Leftover::default();
        (Self { inner: Some(inner), given, activity, write_timeout, stuck: None, ended: false, leftover: leftover.clone() }, leftover)
    }

    /// Passes a write's result on, or gives up when it has been stuck for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stuck = None;
            return result;
        }
        let write_timeout = self.write_timeout;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        ready!(stuck.as_mut().poll(context));
        self.ended = true;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl<I: AsyncRead + Unpin> AsyncRead for Stream<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.given.is_empty() {
            let count = self.given.len().min(buffer.remaining());
            buffer.put_slice(&self.given.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(gone())) };
        let result = ready!(Pin::new(inner).poll_read(context, buffer));
        if result.is_err() || (room && buffer.filled().len() == before) {
            self.ended = true;
        } else {
            self.activity.bytes_read();
        }
        Poll::Ready(result)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Stream<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.activity.unsent(true);
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(gone())) };
        let result = Pin::new(inner).poll_write(context, bytes);
        self.watch(context, result)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.activity.unsent(true);
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(gone())) };
        let result = Pin::new(inner).poll_write_vectored(context, slices);
        self.watch(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(gone())) };
        let result = Pin::new(inner).poll_flush(context);
        if result.is_ready() {
            // hyper flushes when it has nothing left to write.
            self.activity.unsent(false);
        }
        self.watch(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // One that is being closed has no rest.
        self.activity.unsent(true);
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(gone())) };
        let result = Pin::new(inner).poll_shutdown(context);
        self.watch(context, result)
    }
}

impl<I> Drop for Stream<I> {
    fn drop(&mut self) {
        if !self.ended {
            *self.leftover.lock() = self.inner.take();
        }
    }
}

/// Closes our side, then reads what the client still sends until it closes too, for a bounded time.
pub(super) async fn linger<I: AsyncRead + AsyncWrite + Unpin>(mut inner: I) {
    let reading = async {
        inner.shutdown().await?;
        let mut scratch = [0; 4096];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match inner.read(&mut scratch).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        io::Result::Ok(())
    };
    // Whatever comes of it, the connection is over.
    drop(timeout(LINGER_TIME, reading).await);
}
