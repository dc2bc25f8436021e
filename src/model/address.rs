//! Which addresses are a machine's own secrets, and which count as public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Where clouds serve a machine's own credentials.
const METADATA: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), // AWS, Azure, Google, OpenStack, Oracle, …
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),   // AWS ECS task credentials
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),  // AWS EKS pod identity
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),     // Oracle, older
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)), // AWS EKS pod identity
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), // Google
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe)), // OpenStack
];

/// Networks whose addresses are not public, IPv4 in IPv6 clothes included.
static NOT_PUBLIC: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    let v4 = |a, b, c, d, bits| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits));
    let v6 = |a, b, c, bits| IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits));
    vec![
        v4(0, 0, 0, 0, 8),
        v4(10, 0, 0, 0, 8),
        v4(100, 64, 0, 0, 10),
        v4(127, 0, 0, 0, 8),
        v4(169, 254, 0, 0, 16),
        v4(172, 16, 0, 0, 12),
        v4(192, 0, 0, 0, 24),
        v4(192, 0, 2, 0, 24),
        v4(192, 168, 0, 0, 16),
        v4(198, 18, 0, 0, 15),
        v4(198, 51, 100, 0, 24),
        v4(203, 0, 113, 0, 24),
        v4(224, 0, 0, 0, 4),
        v4(240, 0, 0, 0, 4),
        v6(0, 0, 0, 96), // unspecified, loopback, IPv4-compatible
        IpNet::V6(Ipv6Net::new_assert(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), 96)),
        v6(0x64, 0xff9b, 0, 96),  // NAT64
        v6(0x64, 0xff9b, 1, 48),  // local NAT64
        v6(0x100, 0, 0, 64),      // discard
        v6(0x2001, 0, 0, 32),     // Teredo
        v6(0x2001, 0xdb8, 0, 32), // documentation
        v6(0x2002, 0, 0, 16),     // 6to4
        v6(0xfc00, 0, 0, 7),
        v6(0xfe80, 0, 0, 10),
        v6(0xff00, 0, 0, 8),
    ]
});

/// Whether this is an address at which a cloud serves a machine's credentials, also when it is written as an
/// IPv6 address that leads to an IPv4 one.
pub fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&address) || embedded(address).is_some_and(|inner| METADATA.contains(&IpAddr::V4(inner)))
}

/// Whether this address is public: urls that come out of a payload may be called only there.
pub fn is_public(address: IpAddr) -> bool {
    !NOT_PUBLIC.iter().any(|net| net.contains(&address)) && !is_metadata(address)
}

/// The IPv4 address that an IPv6 address stands for.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d] {
        [0x2002, high, low, _] => Some(join(high, low)),
        // RFC 6052: a prefix of 48 bits leaves the octet at bit 64 out of the address.
        [0x64, 0xff9b, 1, high] if (e, f) != (0, 0) => Some(join(high, (e & 0xff) << 8 | f >> 8)),
        [0x64, 0xff9b, 0 | 1, _] | [0, 0, 0, 0] => Some(join(g, h)),
        _ => None,
    }
}

/// The address that a url names as its host without any look-up, however it is written.
pub fn literal(url: &url::Url) -> Option<IpAddr> {
    match url.host()? {
        url::Host::Ipv4(v4) => Some(IpAddr::V4(v4)),
        url::Host::Ipv6(v6) => Some(IpAddr::V6(v6)),
        url::Host::Domain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_addresses_are_known_in_every_disguise() {
        for text in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "::ffff:169.254.169.254", "::169.254.169.254"] {
            assert!(is_metadata(text.parse().unwrap()), "{text}");
        }
        for text in ["64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "2002:a9fe:a9fe::1"] {
            assert!(is_metadata(text.parse().unwrap()), "{text}");
        }
        for text in ["127.0.0.1", "10.0.0.1", "::1", "169.254.1.1", "2001:4860::1"] {
            assert!(!is_metadata(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_number_that_is_an_address_is_seen_through() {
        for text in [
            "http://169.254.169.254/",
            "http://2852039166/",
            "http://0xa9fea9fe/x",
            "http://[::ffff:a9fe:a9fe]/",
            "http://0251.0376.169.254/",
        ] {
            assert!(literal(&text.parse().unwrap()).is_some_and(is_metadata), "{text}");
        }
        assert!(!literal(&"http://127.1/".parse().unwrap()).is_some_and(is_metadata));
    }

    #[test]
    fn only_public_addresses_are_public() {
        let private = "127.0.0.1 0.1.2.3 10.1.1.1 100.64.0.1 169.254.0.1 172.31.255.255 192.0.0.8 192.168.1.1 198.19.0.1 224.0.0.1 255.255.255.255 \
                       ::1 :: ::ffff:8.8.8.8 ::8.8.8.8 64:ff9b::808:808 64:ff9b:1::1 2002::1 2001::1 fc00::1 fdff::1 fe80::1 ff02::1";
        for text in private.split_whitespace() {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:4860:4860::8888", "2a00:1450::1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
