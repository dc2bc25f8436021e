//! The settlement's record: where a delivery stands now, and the attempt that brought it there.

use bytes::{BufMut, Bytes};

use super::{Frame, Kind, begin, close, fields, flag};
use crate::model::{Attempt, AttemptResult, DeadCode, DeadReason, DeliveryId, DeliveryState, EventId, FaultKind, OutcomeKind, Timestamp};
use crate::store::local::codec::{Cursor, Malformed, put_long};

/// What a settlement's record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::local) struct Settled {
    pub(in crate::store::local) delivery: DeliveryId,
    /// The event's accept sequence.
    pub(in crate::store::local) sequence: u64,
    /// The version that the delivery has from here on.
    pub(in crate::store::local) version: u32,
    pub(in crate::store::local) attempts: u32,
    pub(in crate::store::local) state: DeliveryState,
    pub(in crate::store::local) attempt: Option<Attempt>,
}

impl Settled {
    /// Whether the attempt was cut off by the end of the process.
    pub(in crate::store::local) fn is_interrupted(&self) -> bool {
        let result = self.attempt.as_ref().map(|attempt| &attempt.result);
        matches!(result, Some(AttemptResult::Fault { kind: FaultKind::Interrupted, .. }))
    }
}

pub(in crate::store::local) fn encode_settlement(settled: &Settled) -> Vec<u8> {
    let mut record = begin(Kind::Settlement, 256);
    record.put_u128_le(settled.delivery.event.to_bits());
    record.put_u32_le(settled.delivery.ordinal);
    record.put_u64_le(settled.sequence);
    record.put_u32_le(settled.version);
    record.put_u32_le(settled.attempts);
    put_state(&mut record, &settled.state);
    record.put_u8(u8::from(settled.attempt.is_some()));
    if let Some(attempt) = &settled.attempt {
        put_attempt(&mut record, attempt);
    }
    close(&mut record, 0);
    record
}

pub(in crate::store::local) fn put_state(record: &mut Vec<u8>, state: &DeliveryState) {
    match state {
        DeliveryState::Pending { due } => {
            record.put_u8(1);
            record.put_i64_le(due.millis());
        }
        DeliveryState::Delivered => record.put_u8(2),
        DeliveryState::Dead(reason) => {
            record.put_u8(3);
            record.put_u8(reason.code.code());
            put_long(record, reason.detail.as_bytes());
        }
        DeliveryState::Skipped => record.put_u8(4),
        DeliveryState::Cancelled => record.put_u8(5),
    }
}

pub(in crate::store::local) fn state_of(cursor: &mut Cursor<'_>) -> Result<DeliveryState, Malformed> {
    Ok(match cursor.u8()? {
        1 => DeliveryState::Pending { due: Timestamp::from_millis(cursor.i64()?) },
        2 => DeliveryState::Delivered,
        3 => {
            let code = DeadCode::from_code(cursor.u8()?).ok_or(Malformed("reason"))?;
            DeliveryState::Dead(DeadReason { code, detail: cursor.text()?.into() })
        }
        4 => DeliveryState::Skipped,
        5 => DeliveryState::Cancelled,
        _ => return Err(Malformed("state")),
    })
}

fn put_attempt(record: &mut Vec<u8>, attempt: &Attempt) {
    record.put_u32_le(attempt.number);
    record.put_i64_le(attempt.started_at.millis());
    record.put_u32_le(attempt.duration_ms);
    record.put_u8(attempt.outcome.code());
    match &attempt.result {
        AttemptResult::Response { status, excerpt } => {
            record.put_u8(1);
            record.put_u16_le(*status);
            put_long(record, excerpt);
        }
        AttemptResult::Fault { kind, detail } => {
            record.put_u8(2);
            record.put_u8(kind.code());
            put_long(record, detail.as_bytes());
        }
    }
}

fn attempt(cursor: &mut Cursor<'_>) -> Result<Attempt, Malformed> {
    let number = cursor.u32()?;
    let started_at = Timestamp::from_millis(cursor.i64()?);
    let duration_ms = cursor.u32()?;
    let outcome = OutcomeKind::from_code(cursor.u8()?).ok_or(Malformed("outcome"))?;
    let result = match cursor.u8()? {
        1 => AttemptResult::Response { status: cursor.u16()?, excerpt: Bytes::copy_from_slice(cursor.long()?) },
        2 => {
            let kind = FaultKind::from_code(cursor.u8()?).ok_or(Malformed("fault"))?;
            AttemptResult::Fault { kind, detail: cursor.text()?.into() }
        }
        _ => return Err(Malformed("result")),
    };
    Ok(Attempt { number, started_at, duration_ms, result, outcome })
}

pub(in crate::store::local) fn decode_settlement(record: &[u8], frame: &Frame) -> Result<Settled, Malformed> {
    let mut cursor = Cursor::new(fields(record, frame)?);
    let event = EventId::from_bits(cursor.u128()?);
    let delivery = DeliveryId::new(event, cursor.u32()?);
    let sequence = cursor.u64()?;
    let (version, attempts) = (cursor.u32()?, cursor.u32()?);
    let state = state_of(&mut cursor)?;
    let attempt = if flag(&mut cursor)? { Some(attempt(&mut cursor)?) } else { None };
    cursor.finish()?;
    Ok(Settled { delivery, sequence, version, attempts, state, attempt })
}
