//! Whatever is encoded reads back, and whatever is read never panics.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::model::{Answer, Attempt, AttemptResult, DeadCode, DeadReason, DeliveryId, DeliveryState, Event, FaultKind, OutcomeKind};
use crate::store::local::batch;
use crate::store::{DedupeKey, NewEvent};

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn word() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,20}".prop_map(String::into_boxed_str)
}

fn new_delivery() -> impl Strategy<Value = NewDelivery> {
    (word(), option::of(any::<u64>().prop_map(Lane)), time()).prop_map(|(name, lane, due)| NewDelivery {
        destination: Arc::from(name),
        lane,
        due,
    })
}

fn header_map() -> impl Strategy<Value = HeaderMap> {
    vec(("[a-z][a-z0-9-]{0,10}", vec(0x20_u8..=0x7e, 0..20)), 0..10).prop_map(|pairs| {
        let pairs = pairs
            .into_iter()
            .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(&value).unwrap()));
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    })
}

prop_compose! {
    fn new_event()(
        id in any::<u128>(),
        received_at in time(),
        peer in option::of(any::<IpAddr>()),
        (route, base, source_id, event_type, content_type) in (word(), word(), option::of(word()), option::of(word()), option::of(word())),
        method in prop_oneof![Just(Method::GET), Just(Method::POST), "[A-Z]{1,12}".prop_map(|word| Method::from_bytes(word.as_bytes()).unwrap())],
        (target, body, answer) in (data(), data(), data()),
        headers in header_map(),
        dedupe in option::of((any::<[u8; 16]>(), time())),
        status in any::<u16>(),
        deliveries in vec(new_delivery(), 0..5),
    ) -> NewEvent {
        NewEvent {
            event: Event {
                id: EventId::from_bits(id), route: Arc::from(route), received_at, peer, source_id, event_type, method, target,
                base: Arc::from(base), headers, body,
            },
            dedupe: dedupe.map(|(hash, expires_at)| DedupeKey { hash, expires_at }),
            answer: Answer { status, content_type, body: answer },
            deliveries,
        }
    }
}

fn delivery_state() -> impl Strategy<Value = DeliveryState> {
    let dead = (proptest::sample::select(DeadCode::ALL), word());
    prop_oneof![
        time().prop_map(|due| DeliveryState::Pending { due }),
        Just(DeliveryState::Delivered),
        dead.prop_map(|(code, detail)| DeliveryState::Dead(DeadReason { code, detail })),
        Just(DeliveryState::Skipped),
        Just(DeliveryState::Cancelled),
    ]
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let result = prop_oneof![
        (any::<u16>(), data()).prop_map(|(status, excerpt)| AttemptResult::Response { status, excerpt }),
        (proptest::sample::select(FaultKind::ALL), word()).prop_map(|(kind, detail)| AttemptResult::Fault { kind, detail }),
    ];
    (any::<u32>(), time(), any::<u32>(), result, proptest::sample::select(OutcomeKind::ALL))
        .prop_map(|(number, started_at, duration_ms, result, outcome)| Attempt { number, started_at, duration_ms, result, outcome })
}

proptest! {
    #[test]
    fn an_event_reads_back(new in new_event(), sequence in any::<u64>(), first_position in any::<u64>()) {
        let mut names = Names::default();
        let mut record = encode_event(&new, new.event.body.len());
        prop_assert!(record.capacity() - record.len() >= new.event.body.len(), "there is room for the body");
        number_event(&mut record, sequence, first_position);
        let head_bytes = record.len();
        record.extend_from_slice(&new.event.body);
        let frame = Frame::parse(&record).unwrap();
        seal(&mut record, &frame, 7);
        let frame = Frame::parse(&record).unwrap();
        prop_assert!(frame.head_is_sound(&record, 7) && frame.tail_is_sound(&record[head_bytes..], 7));
        prop_assert!(!frame.head_is_sound(&record, 8));
        prop_assert_eq!(event_id(&record), Ok(new.event.id));
        let head = event_head(&record, &frame, &mut names).unwrap();
        prop_assert_eq!((head.sequence, head.first_position, head.id, head.received_at), (sequence, first_position, new.event.id, new.event.received_at));
        prop_assert_eq!((&head.dedupe, &head.answer, &head.deliveries), (&new.dedupe, &new.answer, &new.deliveries));
        prop_assert_eq!(event(&record, &frame, new.event.body.clone(), &mut names).unwrap(), new.event);
    }

    #[test]
    fn a_settlement_reads_back(
        (event, ordinal, sequence, version, attempts) in (any::<u128>(), any::<u32>(), any::<u64>(), any::<u32>(), any::<u32>()),
        state in delivery_state(),
        attempt in option::of(attempt()),
    ) {
        let delivery = DeliveryId::new(EventId::from_bits(event), ordinal);
        let settled = Settled { delivery, sequence, version, attempts, state, attempt };
        let record = encode_settlement(&settled);
        prop_assert_eq!(decode_settlement(&record, &Frame::parse(&record).unwrap()), Ok(settled));
    }

    #[test]
    fn replays_repeats_keys_and_states_read_back(
        (event, sequence, first_position, first_ordinal) in (any::<u128>(), any::<u64>(), any::<u64>(), any::<u32>()),
        created_at in time(),
        deliveries in vec(new_delivery(), 0..5),
        kind in prop_oneof![Just(DeliveryKind::Replay), Just(DeliveryKind::Acknowledgement)],
        (key, count) in any::<([u8; 16], u64)>(),
        (name, value) in (word(), option::of(data())),
    ) {
        let event = EventId::from_bits(event);
        let replay = Replayed { event, kind, sequence, created_at, first_position, first_ordinal, deliveries };
        let record = encode_replay(&replay);
        prop_assert_eq!(decode_replay(&record, &Frame::parse(&record).unwrap(), &mut Names::default()), Ok(replay));
        let repeat = Repeated { event, key, count };
        let record = encode_repeat(&repeat);
        prop_assert_eq!(decode_repeat(&record, &Frame::parse(&record).unwrap()), Ok(repeat));
        let answer = Answer { status: 202, content_type: value.is_none().then(|| name.clone()), body: value.clone().unwrap_or_default() };
        let kept = KeyRecord { hash: key, event, sequence, expires_at: created_at, repeats: count, answer };
        let record = encode_key(&kept);
        prop_assert_eq!(record.len() as u64, key_bytes(&kept.answer));
        prop_assert_eq!(decode_key(&record, &Frame::parse(&record).unwrap()), Ok(kept));
        let record = encode_state(&name, value.as_ref());
        prop_assert_eq!(decode_state(&record, &Frame::parse(&record).unwrap()), Ok((name.into_string(), value)));
    }

    #[test]
    fn arbitrary_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..400)) {
        crate::store::local::fuzz_batches(&bytes);
    }

    #[test]
    fn a_damaged_record_is_read_without_a_panic(new in new_event(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = encode_event(&new, 0);
        bytes.extend_from_slice(&new.event.body);
        let at = at.index(bytes.len());
        bytes[at] = with;
        crate::store::local::fuzz_batches(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        crate::store::local::fuzz_batches(&bytes);
    }

    #[test]
    fn a_batch_of_any_records_reads_back(news in vec(new_event(), 1..4), nonce in any::<u128>()) {
        let mut batch = vec![0; batch::HEADER];
        for new in &news {
            batch.extend(encode_event(new, 0));
            batch.extend_from_slice(&new.event.body);
        }
        batch::finish(&mut batch, nonce, 1, 0, Timestamp::default());
        let (header, payload) = batch::read(&batch, 0, nonce).unwrap();
        prop_assert_eq!(header.count as usize, news.len());
        for (found, new) in batch::records(payload).zip(&news) {
            let (_, frame, record) = found.unwrap();
            prop_assert!(frame.head_is_sound(record, batch::seed(nonce)));
            prop_assert_eq!(event_id(record), Ok(new.event.id));
        }
    }
}
