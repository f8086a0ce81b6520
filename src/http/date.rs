//! The `Date` field (RFC 9110 5.6.7) from a number of seconds. Reads no clock.

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// A moment of the Gregorian calendar in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: u32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    /// Days since 1970-01-01, a Thursday.
    days: u64,
}

impl Civil {
    /// From seconds since 1970, by Howard Hinnant's days-to-civil method: years begin in March,
    /// so that the leap day is the last of its year.
    pub fn from_unix(secs: u64) -> Civil {
        let (days, of_day) = (secs / 86_400, secs % 86_400);
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Civil {
            year: year as u32,
            month: month as u8,
            day: day as u8,
            hour: (of_day / 3_600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
            days,
        }
    }

    /// `Sat, 21 Nov 2026 02:16:00 GMT`: always 29 bytes.
    pub fn to_http(self) -> [u8; 29] {
        let mut out = *b"Xxx, 00 Xxx 0000 00:00:00 GMT";
        out[..3].copy_from_slice(DAYS[(self.days % 7) as usize]);
        out[8..11].copy_from_slice(MONTHS[usize::from(self.month) - 1]);
        put(&mut out[5..7], u32::from(self.day));
        put(&mut out[12..16], self.year);
        put(&mut out[17..19], u32::from(self.hour));
        put(&mut out[20..22], u32::from(self.minute));
        put(&mut out[23..25], u32::from(self.second));
        out
    }

    /// `2026-11-21T02:16:00`: always 19 bytes.
    pub fn to_iso(self) -> [u8; 19] {
        let mut out = *b"0000-00-00T00:00:00";
        put(&mut out[..4], self.year);
        put(&mut out[5..7], u32::from(self.month));
        put(&mut out[8..10], u32::from(self.day));
        put(&mut out[11..13], u32::from(self.hour));
        put(&mut out[14..16], u32::from(self.minute));
        put(&mut out[17..19], u32::from(self.second));
        out
    }

    /// `21/Nov/2026:02:16:00 +0000`, the form of the combined log format: always 26 bytes.
    pub fn to_combined(self) -> [u8; 26] {
        let mut out = *b"00/Xxx/0000:00:00:00 +0000";
        put(&mut out[..2], u32::from(self.day));
        out[3..6].copy_from_slice(MONTHS[usize::from(self.month) - 1]);
        put(&mut out[7..11], self.year);
        put(&mut out[12..14], u32::from(self.hour));
        put(&mut out[15..17], u32::from(self.minute));
        put(&mut out[18..20], u32::from(self.second));
        out
    }
}

/// Fills the slice with the last digits of `number`.
fn put(out: &mut [u8], mut number: u32) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_rfc_says() {
        let table: [(u64, &str); 5] = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_102_444_800, "Fri, 01 Jan 2100 00:00:00 GMT"),
        ];
        for (secs, expected) in table {
            assert_eq!(Civil::from_unix(secs).to_http(), expected.as_bytes());
        }
        let moment = Civil::from_unix(784_111_777);
        assert_eq!(&moment.to_iso(), b"1994-11-06T08:49:37");
        assert_eq!(&moment.to_combined(), b"06/Nov/1994:08:49:37 +0000");
    }
}
