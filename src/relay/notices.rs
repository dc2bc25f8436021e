//! What a person should know, on its way to whoever tells them.

use tokio::sync::mpsc;

use crate::model::Notice;

/// Where notices go. Clones share it. Nobody waits for it: what finds it full is told in the log only.
#[derive(Clone, Default)]
pub struct Notices(Option<mpsc::Sender<Notice>>);

impl Notices {
    /// Notices that go to this receiver.
    pub fn to(receiver: mpsc::Sender<Notice>) -> Self {
        Self(Some(receiver))
    }

    /// Passes a notice on.
    pub fn tell(&self, notice: Notice) {
        let Some(receiver) = &self.0 else { return };
        if let Err(mpsc::error::TrySendError::Full(notice)) = receiver.try_send(notice) {
            tracing::warn!(kind = notice.kind.event_type(), destination.name = %notice.destination, "too many notices at a time: one is left out");
        }
    }
}
