//! Comparing secrets that are no signatures.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Whether two secrets are the same. It compares their hashes in constant time, so that neither content nor
/// length of the expected one can be learnt from the time it takes.
pub fn same(expected: &[u8], presented: &[u8]) -> bool {
    Sha256::digest(expected).ct_eq(&Sha256::digest(presented)).into()
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn only_equal_secrets_are_the_same() {
        assert!(same(b"abc", b"abc"));
        for other in [&b""[..], b"ab", b"abcd", b"abC"] {
            assert!(!same(b"abc", other));
        }
    }
}
