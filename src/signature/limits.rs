//! The limits of the scheme language: what one request or one scheme may cost at most (I10).

/// Longest value that may carry a signature, in bytes.
pub const SIGNATURE_BYTES_MAX: usize = 8 * 1024;

/// Most parts that one such value may split into.
pub const PARTS_MAX: usize = 64;

/// Most signatures tried for one request: with [`KEYS_MAX`] this bounds the work of a forgery.
pub const CANDIDATES_MAX: usize = 32;

/// Most keys tried for one signature.
pub const KEYS_MAX: usize = 4;

/// Most keys in a map from key id to key; only the named one is tried.
pub const KEY_IDS_MAX: usize = 1024;

/// Most names in a list of signed headers.
pub const SIGNED_HEADERS_MAX: usize = 64;

/// Most fields of a query or a form.
pub const FIELDS_MAX: usize = 1024;

/// Most items that `each` or a `*` in a pointer runs over.
pub const ITEMS_MAX: usize = 256;

/// Deepest JSON that is read.
pub const JSON_DEPTH_MAX: usize = 100;

/// Most commas and brackets in a JSON body that is read, which bounds its values.
pub const JSON_VALUES_MAX: usize = 1_000_000;

/// Most places of JSON that one verifier reads.
pub const POINTERS_MAX: usize = 64;

/// Most operations of one template.
pub const OPS_MAX: usize = 128;

/// Most variants of one scheme.
pub const VARIANTS_MAX: usize = 16;

/// Deepest nesting of `any` and `all`.
pub const NESTING_MAX: usize = 4;

/// Most members of one `any` or `all`, and most networks of one `allow_from`.
pub const MEMBERS_MAX: usize = 64;

/// Longest timestamp text in digits: enough for milliseconds of any year that matters, too short to overflow.
pub const TIMESTAMP_DIGITS_MAX: usize = 16;

/// Latest time that a token may name, in seconds: the year 9999.
pub const NUMERIC_DATE_MAX: i64 = 253_402_300_799;

/// Longest id by which a request names a key that is fetched.
pub const KEY_ID_BYTES_MAX: usize = 256;

/// Longest url of a key that is fetched.
pub const KEY_URL_BYTES_MAX: usize = 2048;

/// Most `challenge` rules of one scheme, and most headers of one reply.
pub const HANDSHAKES_MAX: usize = 16;

/// Longest text of a request that a handshake signs: too short, and of too few characters, to be an event.
pub const ORACLE_BYTES_MAX: usize = 128;

/// Most elements and attributes of an XML body that is read.
pub const XML_NODES_MAX: u32 = 10_000;
