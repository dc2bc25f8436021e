//! Callbacks that are no JSON: XML, forms in other charsets, answers that are part of the protocol.

use super::*;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

fn mac(message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"k").unwrap();
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

fn bytes(mut request: Inbound, body: &[u8]) -> Inbound {
    request.body = Bytes::copy_from_slice(body);
    request
}

#[test]
fn nodes_of_xml_are_signed_named_and_answered() {
    let verifier = compile(
        "{ algorithm: hmac-sha256, secrets: [{ env: k }], signature: { from: 'xml:/payment/@mac', encoding: hex },
           signed: '{xml:/payment/id}|{xml:/payment/amount}|{xml:/payment/note|?}', event: { id: 'xml:/payment/id', type: 'xml:/payment/state' },
           ack: { content_type: application/xml, body: '<ok id=\"{xml:/payment/id}\"/>' } }",
    );
    let body = |amount: &str, more: &str, mac: &str| {
        format!("<?xml version=\"1.0\"?><payment mac=\"{mac}\"><id>7</id><amount>{amount}</amount><state>paid</state>{more}</payment>")
    };
    let right = mac(b"7|10.00|");
    let (_, facts) = verifier.verify(post("/in", &[], &body("10.00", "", &right)), at(NOW)).unwrap().into_parts();
    assert_eq!((facts.source_id.as_deref(), facts.event_type.as_deref()), (Some("7"), Some("paid")));
    let answer = facts.answer.unwrap();
    assert_eq!((answer.content_type.as_deref(), &answer.body[..]), (Some("application/xml"), &b"<ok id=\"7\"/>"[..]));
    let check = |body: String| refusal(verifier.verify(post("/in", &[], &body), at(NOW)));
    assert_eq!(check(body("99.00", "", &right)), Some(Refusal::Mismatch));
    assert_eq!(
        check(body("10.00", "<amount>99.00</amount>", &right)),
        Some(Refusal::Malformed),
        "a node that stands twice has no one value"
    );
    assert_eq!(check(body("10.00", "<note>x</note>", &right)), Some(Refusal::Mismatch), "absent and present are not the same");
    assert_eq!(check(format!("<!DOCTYPE payment [<!ENTITY x '10.00'>]>{}", body("&x;", "", &right))), Some(Refusal::Malformed));
    assert_eq!(check("{}".to_owned()), Some(Refusal::Malformed));
    assert_eq!(verifier.binding(), kurier::signature::Binding::Fields);
}

#[test]
fn values_of_a_form_are_told_in_the_charset_that_the_scheme_declares() {
    let scheme = |signed: &str| {
        compile(&format!(
            "{{ algorithm: hmac-sha256, secrets: [{{ env: k }}], charset: iso-8859-1, signature: {{ from: header:x-sig, encoding: hex }},
               signed: '{signed}', event: {{ id: 'form:name', type: 'query:kind' }} }}"
        ))
    };
    let body = b"name=Z%FCrich";
    let request = |signature: &str| bytes(post("/in?kind=%C4nderung", &[("x-sig", signature)], ""), body);
    let raw = scheme("{form:name}");
    let (_, facts) = raw.verify(request(&mac(b"Z\xfcrich")), at(NOW)).unwrap().into_parts();
    assert_eq!((facts.source_id.as_deref(), facts.event_type.as_deref()), (Some("Zürich"), Some("Änderung")));
    let decoded = scheme("{form:name|utf8=iso-8859-1}");
    assert!(decoded.verify(request(&mac("Zürich".as_bytes())), at(NOW)).is_ok());
    assert_eq!(refusal(decoded.verify(request(&mac(b"Z\xfcrich")), at(NOW))), Some(Refusal::Mismatch));
    // Without a charset the bytes are no text, and no id is made of them.
    let plain = compile(
        "{ algorithm: hmac-sha256, secrets: [{ env: k }], signature: { from: header:x-sig, encoding: hex }, signed: '{body}', event: { id: 'form:name' } }",
    );
    let (_, facts) = plain.verify(request(&mac(body)), at(NOW)).unwrap().into_parts();
    assert_eq!(facts.source_id, None);
}
