//! A guest that lets in who has a token, in Rust and in JavaScript: both do the same.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::{ask, calls, with};
use crate::harness::Origin;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const CONFIG: &str = "max_execution_time = \"500ms\"\n[wasm.middleware.m.config]\naudience = \"shop\"\n\
     keys = { k1 = \"0123456789abcdef0123456789abcdef\" }";

/// RFC 4648 5, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        (0..=three.len())
            .for_each(|place| text.push(DIGITS[(number >> (18 - 6 * place)) as usize & 63] as char));
    }
    text
}

/// RFC 2104, for a key that is not longer than a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

fn token(header: &str, claims: &str, secret: &str) -> String {
    let signed = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
    let signature = hmac(secret.as_bytes(), signed.as_bytes());
    format!("Authorization: Bearer {signed}.{}\r\n", base64(&signature))
}

fn check(file: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = |expires: u64, audience: &str| {
        format!("{{\"sub\":\"ada\",\"exp\":{expires},\"aud\":\"{audience}\"}}")
    };
    const HEADER: &str = "{\"alg\":\"HS256\",\"kid\":\"k1\"}";
    let good = token(HEADER, &claims(now + 600, "shop"), SECRET);
    let cut = good.replace(".", "..");
    let table = [
        ("good", good, 200),
        ("none", String::new(), 401),
        ("expired", token(HEADER, &claims(now - 600, "shop"), SECRET), 401),
        ("of another key", token(HEADER, &claims(now + 600, "shop"), &SECRET.replace('0', "1")), 401),
        ("for others", token(HEADER, &claims(now + 600, "bank"), SECRET), 401),
        ("unsigned", token("{\"alg\":\"none\",\"kid\":\"k1\"}", &claims(now + 600, "shop"), SECRET), 401),
        ("malformed", cut, 401),
        ("no token at all", "Authorization: Bearer x\r\n".to_owned(), 401),
    ];
    let origin = Origin::ok("app");
    let proxy = with(&origin, file, CONFIG, "").start();
    let mut client = proxy.client();
    for (what, field, expected) in &table {
        // What a client says of itself is not believed.
        let response = ask(&mut client, &format!("{field}X-User: mallory\r\n"));
        assert_eq!(response.status, *expected, "{what}");
        if *expected == 401 {
            let challenge = response.head.value("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer"), "{what}: {challenge}");
            assert_eq!(response.text(), "unauthorized\n");
        }
    }
    assert_eq!(origin.only_request().head.values("x-user"), ["ada"]);
    assert_eq!((calls(&proxy, "request", "next"), calls(&proxy, "request", "respond")), (1.0, 7.0));
}

#[test]
fn who_has_a_token_that_holds_is_let_in() {
    check("auth.wasm");
}

#[test]
fn the_same_in_javascript() {
    check("auth-js.wasm");
}
