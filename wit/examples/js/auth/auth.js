// The middleware `auth` in JavaScript: JSON Web Tokens signed with HS256, the same configuration and answers.
// QuickJS has no WebCrypto, so SHA-256 (FIPS 180-4) and HMAC (RFC 2104) are here.
import { unixSeconds } from 'warpdrive:guest/clock@0.1.0';

const SECRET_MIN = 32;
const TOKEN_MAX = 8192;

let settings;

export const filter = {
  configure(json) {
    settings = parse(JSON.parse(json));
    return {
      hooks: { request: true, response: false, log: false },
      requestBody: { tag: 'none' },
      responseBody: { tag: 'none' },
    };
  },

  onRequest(request) {
    try {
      return decide(request);
    } finally {
      // It would be dropped when garbage is collected, which may be long after this call.
      request[Symbol.dispose]();
    }
  },

  // Not called: `configure` asks for neither.
  onResponse() {
    return { tag: 'next' };
  },

  onLog() {},
};

function decide(request) {
  const verdict = authenticate(request.field('authorization'), unixSeconds());
  if (verdict.denial !== undefined) return refuse(verdict.denial);
  try {
    request.setField('x-user', verdict.user);
  } catch {
    // A subject that is no field value must not leave what the client sent there.
    return refuse('malformed token');
  }
  return { tag: 'next' };
}

function refuse(denial) {
  const challenge = denial ? `Bearer error="invalid_token", error_description="${denial}"` : 'Bearer';
  const body = bytes('unauthorized\n');
  return { tag: 'respond', val: { status: 401, fields: [['www-authenticate', challenge]], body } };
}

// What is thrown is the error of `configure`.
function parse(config) {
  const keys = new Map();
  for (const [id, secret] of Object.entries(config.keys ?? {})) {
    if (typeof secret !== 'string' || bytes(secret).length < SECRET_MIN) {
      throw `keys.${id}: a string of at least ${SECRET_MIN} bytes is needed`;
    }
    keys.set(id, bytes(secret));
  }
  if (keys.size === 0) throw 'keys: at least one is needed';
  const leeway = config.leeway ?? 30;
  if (!(leeway >= 0 && leeway <= 3600)) throw 'leeway: a number of seconds up to 3600 is needed';
  for (const key of ['audience', 'issuer']) {
    if (config[key] !== undefined && typeof config[key] !== 'string') throw `${key}: a string is needed`;
  }
  return { keys, leeway, audience: config.audience, issuer: config.issuer };
}

// { user } or { denial }, which is empty if there is no token.
function authenticate(authorization, now) {
  const match = /^bearer (.*)$/i.exec(authorization ?? '');
  if (!match) return { denial: '' };
  const token = match[1].trim();
  const parts = token.split('.');
  if (token.length > TOKEN_MAX || parts.length !== 3) return { denial: 'malformed token' };
  try {
    const header = object(parts[0]);
    if (header.alg !== 'HS256') return { denial: 'algorithm not accepted' };
    if ('crit' in header) return { denial: 'malformed token' };
    const secret = settings.keys.get(header.kid ?? 'default');
    if (!secret) return { denial: 'unknown key' };
    const signed = bytes(`${parts[0]}.${parts[1]}`);
    if (!isSame(hmac(secret, signed), decode(parts[2]))) return { denial: 'wrong signature' };
    return check(object(parts[1]), now);
  } catch {
    return { denial: 'malformed token' };
  }
}

function check(claims, now) {
  for (const name of ['exp', 'nbf']) {
    if (claims[name] !== undefined && typeof claims[name] !== 'number') return { denial: 'malformed token' };
  }
  if (now >= claims.exp + settings.leeway) return { denial: 'token expired' };
  if (now < claims.nbf - settings.leeway) return { denial: 'token not valid yet' };
  const { audience, issuer } = settings;
  if (audience !== undefined && ![claims.aud].flat().includes(audience)) return { denial: 'wrong audience' };
  if (issuer !== undefined && claims.iss !== issuer) return { denial: 'wrong issuer' };
  return { user: typeof claims.sub === 'string' ? claims.sub : '' };
}

function object(part) {
  const value = JSON.parse(String.fromCharCode(...decode(part)).replace(/[\x80-\xff]+/g, utf8));
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw 'not an object';
  return value;
}

function utf8(text) {
  return decodeURIComponent([...text].map((c) => '%' + c.charCodeAt(0).toString(16)).join(''));
}

function bytes(text) {
  const escaped = encodeURIComponent(text);
  const out = [];
  for (let i = 0; i < escaped.length; i++) {
    if (escaped[i] === '%') {
      out.push(parseInt(escaped.substr(i + 1, 2), 16));
      i += 2;
    } else {
      out.push(escaped.charCodeAt(i));
    }
  }
  return new Uint8Array(out);
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

function decode(text) {
  const out = [];
  let bits = 0;
  let count = 0;
  for (const c of text) {
    const value = ALPHABET.indexOf(c);
    if (value < 0) throw 'not base64url';
    bits = ((bits << 6) | value) & 0xfff;
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push((bits >> count) & 0xff);
    }
  }
  // RFC 4648 3.5: left-over bits are zero, or two texts would be one token.
  if (count >= 6 || (bits & ((1 << count) - 1)) !== 0) throw 'not base64url';
  return new Uint8Array(out);
}

// In constant time for what has the right length.
function isSame(a, b) {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i] ^ b[i];
  return difference === 0;
}

function hmac(key, message) {
  const block = new Uint8Array(64);
  block.set(key.length > 64 ? sha256(key) : key);
  const inner = sha256(concat(block.map((b) => b ^ 0x36), message));
  return sha256(concat(block.map((b) => b ^ 0x5c), inner));
}

function concat(a, b) {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

const primes = [];
for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
const K = primes.map((p) => fraction(Math.cbrt(p)));
const START = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)));

function sha256(message) {
  const length = message.length;
  const padded = new Uint8Array(Math.ceil((length + 9) / 64) * 64);
  padded.set(message);
  padded[length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 4, length * 8);
  const rotate = (x, n) => (x >>> n) | (x << (32 - n));
  const state = START.slice();
  const w = new Int32Array(64);
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(at + i * 4);
    for (let i = 16; i < 64; i++) {
      const s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((x, i) => (state[i] = (state[i] + x) | 0));
  }
  const out = new DataView(new ArrayBuffer(32));
  state.forEach((x, i) => out.setInt32(i * 4, x));
  return new Uint8Array(out.buffer);
}
