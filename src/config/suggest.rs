//! Which known name was probably meant by an unknown one.

/// The known name nearest to `written`, if it is near enough to be a slip of the hand.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let slips_max = (written.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (distance(written, name), name))
        .filter(|(slips, name)| *slips <= slips_max && *slips < name.len())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

/// How many characters have to be added, removed, replaced or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replaced = usize::from(left[i - 1] != right[j - 1]);
            let mut slips = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + replaced);
            let swapped = i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if swapped {
                slips = slips.min(before_last[j - 2] + 1);
            }
            row.push(slips);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_does_not() {
        let known = ["port", "host", "http_port", "https_port", "strip_prefix"];
        let cases = [
            ("prot", Some("port")),
            ("hots", Some("host")),
            ("http_prt", Some("http_port")),
            ("strip-prefix", Some("strip_prefix")),
            ("PORT", Some("port")),
            ("colour", None),
            ("x", None),
        ];
        for (written, meant) in cases {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }
}
