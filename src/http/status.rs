//! Status codes of our own answers and their reason phrases (RFC 9110 15).

/// A status code, 100 to 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status(pub u16);

impl Status {
    pub const SWITCHING_PROTOCOLS: Status = Status(101);
    pub const BAD_REQUEST: Status = Status(400);
    pub const UNAUTHORIZED: Status = Status(401);
    pub const FORBIDDEN: Status = Status(403);
    pub const NOT_FOUND: Status = Status(404);
    pub const REQUEST_TIMEOUT: Status = Status(408);
    pub const CONTENT_TOO_LARGE: Status = Status(413);
    pub const URI_TOO_LONG: Status = Status(414);
    pub const TOO_MANY_REQUESTS: Status = Status(429);
    pub const FIELDS_TOO_LARGE: Status = Status(431);
    /// The client went away first: for logs only, as nginx writes it.
    pub const CLIENT_CLOSED: Status = Status(499);
    pub const INTERNAL_ERROR: Status = Status(500);
    pub const NOT_IMPLEMENTED: Status = Status(501);
    pub const BAD_GATEWAY: Status = Status(502);
    pub const UNAVAILABLE: Status = Status(503);
    pub const GATEWAY_TIMEOUT: Status = Status(504);
    pub const VERSION_NOT_SUPPORTED: Status = Status(505);

    /// The phrase of the statuses that we make ourselves, or are often told to make; empty for
    /// others.
    pub fn phrase(self) -> &'static str {
        match self {
            Status(200) => "OK",
            Status(201) => "Created",
            Status(202) => "Accepted",
            Status(204) => "No Content",
            Status(301) => "Moved Permanently",
            Status(302) => "Found",
            Status(303) => "See Other",
            Status(304) => "Not Modified",
            Status(307) => "Temporary Redirect",
            Status(308) => "Permanent Redirect",
            Status(405) => "Method Not Allowed",
            Status(410) => "Gone",
            Status(451) => "Unavailable For Legal Reasons",
            Status::BAD_REQUEST => "Bad Request",
            Status::UNAUTHORIZED => "Unauthorized",
            Status::FORBIDDEN => "Forbidden",
            Status::NOT_FOUND => "Not Found",
            Status::REQUEST_TIMEOUT => "Request Timeout",
            Status::CONTENT_TOO_LARGE => "Content Too Large",
            Status::URI_TOO_LONG => "URI Too Long",
            Status::TOO_MANY_REQUESTS => "Too Many Requests",
            Status::FIELDS_TOO_LARGE => "Request Header Fields Too Large",
            Status::INTERNAL_ERROR => "Internal Server Error",
            Status::NOT_IMPLEMENTED => "Not Implemented",
            Status::BAD_GATEWAY => "Bad Gateway",
            Status::UNAVAILABLE => "Service Unavailable",
            Status::GATEWAY_TIMEOUT => "Gateway Timeout",
            Status::VERSION_NOT_SUPPORTED => "HTTP Version Not Supported",
            _ => "",
        }
    }

    /// There is no body, and no length is said (RFC 9110 8.6, 15.4.5).
    pub fn is_bodiless(self) -> bool {
        matches!(self.0, 204 | 304)
    }

    /// 1xx: not the last head of an exchange.
    pub fn is_informational(self) -> bool {
        self.0 < 200
    }

    /// The digits as they stand in a status line.
    pub fn digits(self) -> [u8; 3] {
        let digit = |n: u16| b'0' + (n % 10) as u8;
        [digit(self.0 / 100), digit(self.0 / 10), digit(self.0)]
    }
}
